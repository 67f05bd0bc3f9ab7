"""Text from outside, made fit for Markdown as GitHub and GitLab show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_siren.spec.errors import printable

_PLAIN = frozenset(" ,/-")
_ELLIPSIS = "…"


def quoted(text: str, limit: int = 80) -> str:
    """Return ``text`` as inline code on one line, at most ``limit`` characters of it.

    Nothing in it is obeyed: markup, HTML, table pipes, links, and within ``<code>`` also mentions,
    references to issues and commits, and emoji. Numeric references stand for whatever could begin
    any of these (CommonMark 0.31, section 2.5: they never stand for structure), which unlike a
    fence of backticks also holds in tables.
    """
    cut = text[: limit + 1]
    shown = printable(cut if len(cut) <= limit else cut[: limit - 1] + _ELLIPSIS)
    return "<code>" + "".join(_harmless(shown, at) for at in range(len(shown))) + "</code>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return a table of cells that are Markdown already; columns ``right`` are aligned there."""
    numbers = set(right)
    rule = ["--:" if at in numbers else "---" for at in range(len(head))]
    lines = (" | ".join(cells) for cells in (head, rule, *rows))
    return "".join(f"| {line} |\n" for line in lines)


def _harmless(text: str, at: int) -> str:
    char = text[at]
    if char in _PLAIN or (char.isalnum() and char.isascii()):
        return char
    if not char.isascii():
        return char
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if char in "_.:" and before.isalnum() and after.isalnum() and before.lower() != "w":
        return char
    return f"&#{ord(char)};"
