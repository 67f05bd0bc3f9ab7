"""Scores, statuses and finish reasons of runs. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from numbers import Real
from types import MappingProxyType
from typing import Any


def score_of(value: Any, evaluator: str) -> float:
    """Return ``value`` as a score from 0.0 to 1.0.

    Numbers of any library and bools are scores; numpy's bool and arrays without dimensions are
    taken for what they hold. ``evaluator`` is how messages name what returned ``value``. Raises
    ``TypeError`` for what is no number, texts included, and ``ValueError`` for NaN and for numbers
    outside of 0.0 to 1.0.
    """
    number: Any = _scalar(value)
    if not isinstance(number, Real | Decimal):
        raise TypeError(
            f"evaluator {evaluator} returned {_type_name(value)}, "
            "expected a number from 0.0 to 1.0 or a bool"
        )
    try:
        within = _within(number)
        score = float(number)
    except (ArithmeticError, ValueError):
        # A Decimal's signalling NaN, or an integer that no float can hold.
        within, score = False, float("nan")
    if not (within and 0.0 <= score <= 1.0):
        shown = str(number) if isinstance(number, float | Decimal) else _shown(number)
        raise ValueError(f"evaluator {evaluator} returned {shown}, which is not within 0..1")
    return score


def _within(number: Any) -> bool:
    return bool(0 <= number <= 1)


def _scalar(value: Any) -> Any:
    """Return what a number of numpy's, torch's or the like holds, which need not be loaded."""
    if isinstance(value, Real | Decimal) or getattr(value, "shape", None) != ():
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _shown(number: Any) -> str:
    try:
        return str(float(number))
    except OverflowError:
        return "a number that no float can hold"


def _type_name(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


class Status(StrEnum):
    """How a run ended."""

    SCORED = "scored"
    ERROR = "error"
    CANCELLED = "cancelled"


class Finish(StrEnum):
    """How the answer that ended a run ended itself."""

    COMPLETE = "complete"
    LENGTH = "length"
    """Cut off by a limit of tokens, or by the end of the model's context."""
    FILTERED = "filtered"
    """The provider withheld the answer, or the rest of it."""
    REFUSED = "refused"
    """The model refused, and the provider marks the answer as a refusal."""
    EMPTY = "empty"
    """No text and no tool call."""
    FAILED = "failed"
    """The provider reports that the model failed while it answered."""
    INCOMPLETE = "incomplete"
    """The answer is not there yet or was given up, or its reason to end is one nobody knows."""


UNFINISHED = (Finish.LENGTH, Finish.FILTERED, Finish.EMPTY, Finish.FAILED, Finish.INCOMPLETE)
"""From such an answer nobody can conclude what the model would not have done."""

SCORED_BY_DEFAULT = frozenset({Finish.COMPLETE, Finish.REFUSED})

WORDS: Mapping[str, str] = MappingProxyType(
    {
        Finish.LENGTH: "cut off (length)",
        Finish.FILTERED: "filtered",
        Finish.REFUSED: "refused",
        Finish.EMPTY: "empty",
        Finish.FAILED: "failed",
        Finish.INCOMPLETE: "incomplete",
    }
)
"""What tables call the ways to end that a reader must know of, in their order."""

_REASONS = {
    Finish.LENGTH: "the answer was cut off (length)",
    Finish.FILTERED: "the answer was filtered",
    Finish.REFUSED: "the refusal has no words",
    Finish.EMPTY: "the answer is empty",
    Finish.FAILED: "the answer failed",
    Finish.INCOMPLETE: "the answer is incomplete",
}


def spoken(counts: Mapping[str, int]) -> list[str]:
    """Return what tables say of ``counts``, runs by how their answers ended, but for whole ones."""
    return [f"{counts[name]:,} {words}" for name, words in WORDS.items() if counts.get(name)]


def scored(changes: Mapping[str, str]) -> frozenset[Finish]:
    """Return the ways to end that are scored, with ``changes`` of what an eval file says."""
    kept = {finish for finish in SCORED_BY_DEFAULT if changes.get(finish) != "unknown"}
    return frozenset(kept | {Finish(name) for name, what in changes.items() if what == "score"})


def why_unknown(finish: Finish, has_words: bool, scored: frozenset[Finish]) -> str | None:
    """Return why an answer that ended so proves nothing; ``None`` if it is scored.

    A refusal without words is an empty answer, too.
    """
    silent = finish is Finish.REFUSED and not has_words and Finish.EMPTY not in scored
    if finish in scored and not silent:
        return None
    if finish is Finish.REFUSED and has_words:
        return "the answer was refused"
    return _REASONS.get(finish, f"the answer is {finish}")
