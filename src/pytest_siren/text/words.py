"""Texts for terminals and reports. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def shown(path: Path, root: Path) -> Path:
    """Return ``path`` relative to ``root`` if it lies inside, else unchanged."""
    return path.relative_to(root) if path.is_relative_to(root) else path


_ELLIPSIS = "…"
_MOST_MARKS = 2
"""Largest number of combining marks on a character; more could cover other lines."""
_EMOJI_STYLE = "\ufe0f"
"""Makes the character before it one cell wider, on some terminals."""


def printable(text: str, limit: int) -> str:
    r"""Return ``text`` on one line, at most ``limit`` terminal cells wide.

    Whatever could move the cursor, colour, hide or reorder text is spelled out (``\x1b``,
    ``\u202e``); what is cut off at the end leaves an ellipsis. Raises ``ValueError`` for a limit
    below 1.
    """
    if limit < 1:
        raise ValueError(f"text needs at least one cell, not {limit}")
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    # Only sessions that print unusual characters wait for the import.
    from rich.cells import cell_len

    shown: list[str] = []
    width = 0
    fits = 0
    marks = 0
    # A character with its marks takes at least one cell, so the rest could never be shown.
    for char in text[: (limit + 1) * (_MOST_MARKS + 1)]:
        visible = char == " " or char.isprintable()
        marks = marks + 1 if visible and cell_len(char) == 0 else 0
        unit = char if visible and marks <= _MOST_MARKS else _spelled(char)
        shown.append(unit)
        width += cell_len(unit) + (char == _EMOJI_STYLE)
        if width <= limit - 1:
            fits = len(shown)
        elif width > limit:
            return "".join(shown[:fits]) + _ELLIPSIS
    return "".join(shown)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return ``1 run``, ``2 runs``; ``many`` is the plural of a noun that takes more than an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def escaped(text: str) -> str:
    """Return ``text`` on one line, with control characters escaped."""
    if text.isprintable():
        return text
    line = text.replace("\n", " ")
    return "".join(char if char.isprintable() else _spelled(char) for char in line)


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to ``name``, if any is similar."""
    # Hardly any session has an unknown name.
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), n=1)), None)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the known name nearest to ``name``, or nothing."""
    guess = nearest(name, known)
    return f" (did you mean {guess!r}?)" if guess else ""


def listed(names: Iterable[str]) -> str:
    """Return ``names`` as a comma-separated list."""
    return ", ".join(names)


_MOST_NAMES = 8


def shortened(names: Sequence[str]) -> list[str]:
    """Return the first eight of ``names``, and the number of further ones."""
    more = len(names) - _MOST_NAMES
    return [*names[:_MOST_NAMES], f"{more:,} more"] if more > 0 else list(names)


def cell(value: Any) -> Any:
    """Return ``value`` as a cell of a CSV file that spreadsheets do not read as a formula.

    An apostrophe before a text that begins like one keeps it a text (OWASP, "CSV injection").
    """
    if not isinstance(value, str):
        return value
    shown = escaped(value)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
