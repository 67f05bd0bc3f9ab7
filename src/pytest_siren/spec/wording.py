"""How values, keys and guesses are written in messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pytest_siren.yamlpos.wording import KeyPath, dotted, shown, within

__all__ = ["KeyPath", "dotted", "listed", "nearest", "shown", "suggestion", "within"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is most likely a misspelling of, if any."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the known name nearest to ``name``, or nothing."""
    guess = nearest(name, known)
    return f" (did you mean {guess!r}?)" if guess else ""


def listed(names: Iterable[str]) -> str:
    """Return ``names`` as a comma-separated list."""
    return ", ".join(names)
