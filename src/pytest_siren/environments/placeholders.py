"""What stands for a part of the run in the configuration of an agent: ``{prompt}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def fill(value: Any, parts: Mapping[str, str]) -> Any:
    """Return the JSON ``value`` with ``{name}`` replaced in all strings, for names in ``parts``.

    Text that is filled in is not looked at again; other braces stay.
    """
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: parts.get(found[1], found[0]), value)
    if isinstance(value, Mapping):
        return {key: fill(item, parts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, parts) for item in value]
    return value


def names_in(value: Any) -> set[str]:
    """Return the names in braces in the strings of the JSON ``value``."""
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value))
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, list | tuple) or isinstance(value, Mapping):
        return set().union(*map(names_in, items))
    return set()
