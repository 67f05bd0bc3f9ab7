"""Regular expressions of ``re``'s syntax, searched for within a bounded time.

``re`` cannot be interrupted, and some expressions take it exponential time. ``regex`` gives up in
time, and lets other threads run meanwhile.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import Literal, TypeAlias

import regex

from pytest_siren.evaluators.bounds import EvaluationTimeoutError, left

Flag = Literal["ignorecase", "multiline", "dotall", "verbose", "ascii"]
Pattern: TypeAlias = "regex.Pattern[str]"

_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?:\d+(?:,\d*)?|,\d*)\}|\{|[^\\\[{]+|.", re.DOTALL
)


def compile_pattern(pattern: str, flags: Sequence[Flag] | None = None) -> Pattern:
    """Return the compiled pattern. Raises ``ValueError``, also for what ``re`` only warns about."""
    names = [flag.upper() for flag in flags or ()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            re.compile(pattern, reduce(or_, (re.RegexFlag[name] for name in names), re.NOFLAG))
            return _compiled(pattern, tuple(names))
        except (re.error, regex.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"not a regular expression: {error}") from None


def finds(pattern: Pattern, text: str) -> bool:
    """Tell whether ``pattern`` is found in ``text``. Raises ``EvaluationTimeoutError``."""
    try:
        return pattern.search(text, timeout=left(), concurrent=True) is not None
    except TimeoutError:
        raise EvaluationTimeoutError("out of time") from None


def search(pattern: str, text: str) -> bool:
    """Do the same for a pattern that is known to be one, as ``re.search`` does."""
    return finds(_compiled(pattern, ()), text)


@lru_cache(maxsize=1024)
def _compiled(pattern: str, names: tuple[str, ...]) -> Pattern:
    flags = reduce(or_, (regex.RegexFlag[name] for name in names), regex.VERSION0)
    compiled: Pattern = regex.compile(_literal_braces(pattern), flags)
    return compiled


def _literal_braces(pattern: str) -> str:
    """Return ``pattern`` with each brace escaped that ``re`` takes as it is: ``a{e}`` is no error.

    ``regex`` would take it for how many errors a match may have.
    """
    if "{" not in pattern:
        return pattern
    return "".join("\\{" if piece == "{" else piece for piece in _PIECE.findall(pattern))
