"""What an unquoted scalar means: the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103).

So ``yes``, ``no``, ``on``, ``off``, ``12:30``, ``007`` and dates are text, ``1e-3`` is a number.
"""

from __future__ import annotations

import math
import re

from pytest_siren.yamlpos.nodes import Scalar

_WORDS: dict[str, Scalar] = {
    word: value
    for value, words in (
        (None, ("", "~", "null", "Null", "NULL")),
        (True, ("true", "True", "TRUE")),
        (False, ("false", "False", "FALSE")),
    )
    for word in words
}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL_LOOK = re.compile(r"[-+]?0[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
NOT_IN_1_1 = re.compile(r"(?:[-+]?[0-9]+[eE][-+]?[0-9]+|0o[0-7]+)$")
"""Of the numbers of YAML 1.2, those that are text for readers and writers of YAML 1.1."""
_NUMBER_STARTS = "+-.0123456789"
_LONGEST_NUMBER = 100


def resolve(text: str) -> Scalar:
    """Return the value that ``text`` writes.

    Raises ``ValueError`` for infinity and not-a-number, which JSON, and so a record, cannot hold.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER or _OCTAL_LOOK.fullmatch(text):
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
        raise ValueError(f"{text!r} is not a finite number (put text in quotes)")
    return float(text) if _FLOAT.fullmatch(text) else text


def resolve_dumped(text: str) -> Scalar:
    """Return the value that PyYAML wrote as ``text``, unquoted.

    PyYAML, which follows YAML 1.1, quotes whatever is another value there, but neither ``1e3`` nor
    ``0o17``, and writes no number like these. Raises as ``resolve``.
    """
    return text if NOT_IN_1_1.fullmatch(text) else resolve(text)
