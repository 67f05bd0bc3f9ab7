"""Finds planted text in the messages that an agent has read.

Tools rarely hand text on as it is: YAML folds lines and doubles quotes, JSON escapes them. So white
space, quotes and backslashes need not be the same, and other characters may be escaped. Both texts
are brought to one form, in time in proportion to their length, for both may be hostile.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import islice

import regex

_TOKEN = re.compile(r"""[^\s'"\\]+""")
_ESCAPE = (
    r"U[0-9a-fA-F]{8}|u[dD][89abAB][0-9a-fA-F]{2}\\{1,8}u[dD][c-fC-F][0-9a-fA-F]{2}|"
    r"u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}"
)
_DIGITS = re.compile(r"[0-9a-fA-F]{2,}")
_SHORTEST = 3
"""Shorter texts would match everywhere."""
_MOST_FOUND = 1000


class _Level(IntEnum):
    """How backslashes in a text are interpreted, besides gaps between words."""

    NOTHING = 0
    CHARACTERS = 1
    r"""``\xe9`` is the character, which YAML may let a folded line follow."""
    ONCE = 2
    r"""As well, ``\n`` is a gap, unless its backslash is itself escaped."""
    OFTEN = 3
    r"""As well, ``\n`` is a gap after any number of backslashes."""


# Possessive quantifiers keep the time linear in the number of backslashes. Those of the standard
# library find too little before Python 3.11.4.
_GAPS = {
    _Level.NOTHING: r"[\s'\"\\]",
    _Level.CHARACTERS: rf"\\++(?!{_ESCAPE})|[\s'\"]",
    _Level.ONCE: rf"(?:\\\\)*+\\(?!{_ESCAPE})[nrt]|\\++(?!{_ESCAPE})|[\s'\"]",
    _Level.OFTEN: rf"\\++(?!{_ESCAPE})[nrt]?|[\s'\"]",
}
_LAYOUTS = {
    level: regex.compile(
        rf"(?P<gap>(?:{gap})++)|(?P<slashes>\\++)(?P<escape>{_ESCAPE})(?:\\\n\ *+)?"
    )
    for level, gap in _GAPS.items()
}


def marked(text: str, planted: Mapping[str, int]) -> list[tuple[str, tuple[int, ...]]]:
    """Return ``text`` in pieces, each with the numbers of the contents it belongs to.

    ``planted`` maps contents to their numbers. Pieces of no content have no number, pieces where
    contents overlap have several. The pieces, joined, are ``text``.
    """
    edges: dict[int, list[tuple[int, int]]] = {}
    forms = _Forms(text)
    for content, number in planted.items():
        for start, end in _occurrences(forms, content):
            edges.setdefault(start, []).append((number, 1))
            edges.setdefault(end, []).append((number, -1))
    pieces: list[tuple[str, tuple[int, ...]]] = []
    inside: dict[int, int] = {}
    left = 0
    for edge in [*sorted(edges), len(text)]:
        if edge > left:
            numbers = tuple(sorted(number for number, depth in inside.items() if depth))
            pieces.append((text[left:edge], numbers))
        for number, step in edges.get(edge, ()):
            inside[number] = inside.get(number, 0) + step
        left = edge
    return pieces or [("", ())]


def _occurrences(forms: _Forms, content: str) -> set[tuple[int, int]]:
    first = _TOKEN.search(content)
    if first is None or len(content.strip()) < _SHORTEST:
        return set()
    # This test excludes almost all texts, and computing the forms takes far longer.
    if first[0].isascii() and first[0] not in forms.text:
        return set()
    words = _words(content)
    return {span for form in forms.all for span in islice(form.occurrences(words), _MOST_FOUND)}


@lru_cache(maxsize=256)
def _words(content: str) -> str:
    return " ".join(_TOKEN.findall(content))


@dataclass(eq=False)
class _Form:
    """A text with one space for each gap, and the origin of each character."""

    pieces: list[str] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))

    def keep(self, text: str, start: int, end: int) -> None:
        """Add ``text[start:end]`` unchanged."""
        if end > start:
            self.pieces.append(text[start:end])
            self.starts.extend(range(start, end))
            self.ends.extend(range(start + 1, end + 1))

    def add(self, char: str, start: int, end: int) -> None:
        """Add ``char``, which stands for that part of the text; a gap only once."""
        if char == " " and self.pieces and self.pieces[-1] == " ":
            self.ends[-1] = end
            return
        self.pieces.append(char)
        self.starts.append(start)
        self.ends.append(end)

    @cached_property
    def text(self) -> str:
        return "".join(self.pieces)

    def occurrences(self, words: str) -> Iterator[tuple[int, int]]:
        """Yield the occurrences of ``words``, as positions in the original text."""
        start = self.text.find(words)
        while start >= 0:
            end = start + len(words)
            yield self.starts[start], self.ends[end - 1]
            start = self.text.find(words, end)


class _Forms:
    """The forms of one text, computed on first use."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def all(self) -> list[_Form]:
        levels = _Level if "\\" in self.text else (_Level.NOTHING,)
        return [_form(self.text, level) for level in levels]


def _form(text: str, level: _Level) -> _Form:
    form = _Form()
    left = 0
    for found in _LAYOUTS[level].finditer(text):
        form.keep(text, left, found.start())
        left = found.end()
        if found["gap"] is not None:
            form.add(" ", found.start(), left)
        elif char := _character(found["escape"]):
            form.add(char, found.start(), left)
        else:
            left = found.end("slashes")
            form.add(" ", found.start(), left)
    form.keep(text, left, len(text))
    return form


def _character(escape: str) -> str | None:
    """Return the character that ``escape`` stands for; ``None`` for one of ASCII or none at all."""
    codes = [int(digits, 16) for digits in _DIGITS.findall(escape)]
    code = codes[0]
    if len(codes) == 2:
        code = 0x10000 + ((codes[0] & 0x3FF) << 10) + (codes[1] & 0x3FF)
    return chr(code) if 0x80 <= code <= 0x10FFFF else None
