"""Finding planted text in what an agent has read.

Tools rarely hand text on as it is: YAML folds lines and doubles quotes, JSON escapes them. So white
space, quotes and backslashes need not be the same, and other characters may be escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_TOKEN = re.compile(r"""[^\s'"\\]+""")
_BETWEEN = r"""(?:\\[nrt]|[\s'"\\])+"""
_SHORTEST = 3
"""Fewer characters would be found everywhere."""


def marked(text: str, planted: Mapping[str, int]) -> list[tuple[str, tuple[int, ...]]]:
    """Return ``text`` in pieces, each with the numbers of the contents it belongs to.

    ``planted`` maps contents to their numbers. Pieces of no content have no number, pieces where
    contents overlap have several. The pieces, joined, are ``text``.
    """
    spans = [
        (start, end, number)
        for content, number in planted.items()
        for start, end in _occurrences(text, content)
    ]
    if not spans:
        return [(text, ())]
    edges = sorted({0, len(text), *(edge for start, end, _ in spans for edge in (start, end))})
    pieces: list[tuple[str, tuple[int, ...]]] = []
    for left, right in zip(edges, edges[1:], strict=False):
        numbers = {number for start, end, number in spans if start <= left and right <= end}
        pieces.append((text[left:right], tuple(sorted(numbers))))
    return pieces


def _occurrences(text: str, content: str) -> list[tuple[int, int]]:
    first = _TOKEN.search(content)
    if first is None or len(content.strip()) < _SHORTEST:
        return []
    # Almost all texts are told apart here, and making a pattern takes far longer than this.
    if first[0].isascii() and first[0] not in text:
        return []
    return [found.span() for found in _pattern(content).finditer(text)]


@lru_cache(maxsize=1024)
def _pattern(content: str) -> re.Pattern[str]:
    tokens = ("".join(map(_character, token)) for token in _TOKEN.findall(content))
    return re.compile(_BETWEEN.join(tokens))


def _character(char: str) -> str:
    if char.isascii():
        return re.escape(char)
    code = ord(char)
    escapes = [rf"\\U{code:08x}"]
    if code <= 0xFF:
        escapes.append(rf"\\x{code:02x}")
    if code <= 0xFFFF:
        escapes.append(rf"\\u{code:04x}")
    else:
        high, low = divmod(code - 0x10000, 0x400)
        escapes.append(rf"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}")
    return f"(?:{re.escape(char)}|(?i:{'|'.join(escapes)}))"
