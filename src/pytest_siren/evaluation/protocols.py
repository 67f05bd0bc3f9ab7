"""Which optional protocols a part implements."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Protocol, TypeGuard, TypeVar, cast

_P = TypeVar("_P")


def implements(part: object, protocol: type[_P]) -> TypeGuard[_P]:
    """Tell whether ``part`` has all members of ``protocol``, as ``isinstance`` does.

    Python 3.11 looks for the members of a protocol anew each time, which is a twentieth of a run
    whose model answers at once.
    """
    return all(hasattr(part, name) for name in _members(cast(Hashable, protocol)))


@cache
def _members(protocol: Hashable) -> tuple[str, ...]:
    """Return the names that ``protocol`` and the protocols that it extends define."""
    names = {
        name
        for base in getattr(protocol, "__mro__", ())
        if base is not Protocol and getattr(base, "_is_protocol", False)
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
        if not name.startswith("_")
    }
    return tuple(sorted(names))
