"""Text from outside, made fit for Markdown as GitHub and GitLab show it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_siren.spec.errors import printable

_PLAIN = frozenset(" ,/-")
_ELLIPSIS = "…"
_NO_SPAN = re.compile(r"[`|&\\@]|<(?![ =])|://|www\.|\]\(|(?<!\w)#\d|^\s|\s$|^$")
"""What a fence of backticks does not hold in a table, or what is spelled out to be safe from
readers that are laxer than CommonMark."""
_WORDS = re.compile(r"[A-Za-z(\"'0-9][^`|&\\@#\[\]*~^{}$!_]*")
"""Text without anything that Markdown, GitHub or GitLab could take for markup or a reference."""
_REFERENCE = re.compile(
    r"""
    <(?![ =])             # a tag
    | ://| www\.          # an address
    | :[\w+-]+:           # an emoji
    | ^\d{1,9}[.)]        # a list
    | %["\w]              # a milestone
    | \bGH-\d             # an issue
    | \b[0-9a-f]{7,40}\b  # a commit
    | ``|\s$
    """,
    re.VERBOSE | re.IGNORECASE,
)


def quoted(text: str, limit: int = 80) -> str:
    """Return ``text`` as inline code on one line, at most ``limit`` characters of it.

    Nothing in it is obeyed: markup, HTML, table pipes, links, and within ``<code>`` also mentions,
    references to issues and commits, and emoji. Ordinary names are fenced by backticks. For all
    others numeric references stand for whatever could begin any of these (CommonMark 0.31, section
    2.5: they never stand for structure), which unlike a fence also holds in tables.
    """
    shown = _cut(text, limit)
    if not _NO_SPAN.search(shown):
        return f"`{shown}`"
    return "<code>" + "".join(_harmless(shown, at) for at in range(len(shown))) + "</code>"


def prose(text: str, limit: int = 300) -> str:
    """Return a sentence as it is where it consists of ordinary words, else as ``quoted``."""
    shown = _cut(text, limit)
    if _WORDS.fullmatch(_without_inner(shown)) and not _REFERENCE.search(shown):
        return shown
    return quoted(text, limit)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return a table of cells that are Markdown already; columns ``right`` are aligned there."""
    numbers = set(right)
    rule = ["--:" if at in numbers else "---" for at in range(len(head))]
    lines = (" | ".join(cells) for cells in (head, rule, *rows))
    return "".join(f"| {line} |\n" for line in lines)


def _cut(text: str, limit: int) -> str:
    cut = text[: limit + 1]
    return printable(cut if len(cut) <= limit else cut[: limit - 1] + _ELLIPSIS)


def _without_inner(text: str) -> str:
    """Return ``text`` without underscores within words, which never begin emphasis."""
    return re.sub(r"(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])", "", text)


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
