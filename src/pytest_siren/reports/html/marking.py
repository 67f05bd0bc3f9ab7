"""Finding planted text in what an agent has read.

Tools rarely hand text on as it is: YAML folds lines and doubles quotes, JSON escapes them. So white
space, quotes and backslashes need not be the same, and other characters may be escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice

_TOKEN = re.compile(r"""[^\s'"\\]+""")
# Bounded and possessive, for both texts may be hostile: no search may try all ways to part them.
_BETWEEN = tuple(
    rf"(?:{escapes}[\s'\"\\]){{1,200}}+" for escapes in (r"", r"\\\\|\\[nrt]|", r"\\+[nrt]|")
)
r"""What may stand between two words: as it is, escaped once, escaped any number of times. In these
``\n`` is an n, or a newline unless the backslash is itself escaped, or a newline."""
_SHORTEST = 3
"""Fewer characters would be found everywhere."""
_MOST_FOUND = 1000
_MOST_WORK = 200_000_000
"""Characters of a text times those of a content, above which only exact copies are looked for."""


def marked(text: str, planted: Mapping[str, int]) -> list[tuple[str, tuple[int, ...]]]:
    """Return ``text`` in pieces, each with the numbers of the contents it belongs to.

    ``planted`` maps contents to their numbers. Pieces of no content have no number, pieces where
    contents overlap have several. The pieces, joined, are ``text``.
    """
    edges: dict[int, list[tuple[int, int]]] = {}
    for content, number in planted.items():
        for start, end in _occurrences(text, content):
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


def _occurrences(text: str, content: str) -> set[tuple[int, int]]:
    first = _TOKEN.search(content)
    if first is None or len(content.strip()) < _SHORTEST:
        return set()
    # Almost all texts are told apart here, and making a pattern takes far longer than this.
    if first[0].isascii() and first[0] not in text:
        return set()
    if len(text) * len(content) > _MOST_WORK:
        return set(islice(_copies(text, content.strip()), _MOST_FOUND))
    found: set[tuple[int, int]] = set()
    for pattern in _patterns(content):
        found.update(one.span() for one in islice(pattern.finditer(text), _MOST_FOUND))
    return found


def _copies(text: str, content: str) -> Iterator[tuple[int, int]]:
    start = text.find(content)
    while start >= 0:
        end = start + len(content)
        yield start, end
        start = text.find(content, end)


@lru_cache(maxsize=1024)
def _patterns(content: str) -> tuple[re.Pattern[str], ...]:
    tokens = ["".join(map(_character, token)) for token in _TOKEN.findall(content)]
    return tuple(re.compile(between.join(tokens)) for between in _BETWEEN)


def _character(char: str) -> str:
    if char.isascii():
        return re.escape(char)
    code = ord(char)
    # Without backslashes too, for what is between two words may have taken them.
    escapes = [rf"\\*U{code:08x}"]
    if code <= 0xFF:
        escapes.append(rf"\\*x{code:02x}")
    if code <= 0xFFFF:
        escapes.append(rf"\\*u{code:04x}")
    else:
        high, low = divmod(code - 0x10000, 0x400)
        escapes.append(rf"\\*u{0xD800 + high:04x}\\*u{0xDC00 + low:04x}")
    # YAML may go on in the next line after what it has escaped.
    return rf"(?:{re.escape(char)}|(?i:{'|'.join(escapes)})(?:\\\n\ *+)?)"
