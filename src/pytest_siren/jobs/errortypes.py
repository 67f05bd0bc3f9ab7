"""Which types of errors an attempt ended in: its exception's class, and those above it."""

from __future__ import annotations

import builtins
from functools import cache
from inspect import getmembers, isclass

from pytest_siren.jobs.records import IndexEntry


def error_types(entry: IndexEntry) -> frozenset[str]:
    """Return the names, in lower case, by which the error of ``entry`` may be asked for.

    Records of earlier versions, and of prompt-siren, do not hold the classes above the exception's:
    those of Python and of pydantic-ai are known by their names.
    """
    if entry.exception_type is None:
        return frozenset()
    above = entry.exception_bases or known_bases(entry.exception_type)
    return frozenset(name.lower() for name in (entry.exception_type, *above))


@cache
def known_bases(name: str) -> frozenset[str]:
    """Return the names of the classes above those called ``name``, in Python or pydantic-ai."""
    # pydantic-ai is slow to import, and hardly any reader of an index needs it.
    from pydantic_ai import exceptions

    found = (one for module in (builtins, exceptions) for _, one in getmembers(module, isclass))
    named = (one for one in found if one.__name__ == name and issubclass(one, BaseException))
    bases = {above.__name__ for one in named for above in one.__mro__[1:]}
    return frozenset(bases - {"BaseException", "Exception", "object"})
