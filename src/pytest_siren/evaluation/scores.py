"""What an evaluator returned, as a score."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from numbers import Real
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
