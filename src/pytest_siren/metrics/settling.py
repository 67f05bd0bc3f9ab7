"""What would settle a gate that the runs at hand leave open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CHANCE = 0.8
"""Probability with which the runs that are named settle the gate, if rates are as observed."""
MOST_RUNS = 10_000_000
"""Runs beyond which nobody would wait."""


@dataclass(frozen=True)
class Need:
    """Runs or tasks that would settle a gate with the probability ``CHANCE``.

    It is assumed that rates are what was observed. Nothing is set where no number up to ten million
    runs would do, as where an estimate is the bound itself.
    """

    runs: int | None = None
    """Further runs: of the same tasks where ``each`` is set, else of further tasks."""
    each: int | None = None
    """Runs that each of the same tasks should have in all."""
    tasks: int | None = None
    """Further tasks with as many runs as the present ones have."""
    paired: bool = False
    """Whether each run needs a counterpart in the baseline too."""
    repeated: bool | None = None
    """Whether tasks have several runs, which tell what more of them would do; ``None`` where that
    is not worked out."""


def smallest(enough: Callable[[float], bool], few: float, most: float) -> float | None:
    """Return about the smallest number above ``few`` that is ``enough``: to a half or a thousandth.

    ``None`` when not even ``most`` is. Larger numbers than one that is enough are taken to be too.
    """
    step = max(few / 8.0, 1.0)
    low, high = few, min(few + step, most)
    while not enough(high):
        if high >= most:
            return None
        step *= 2.0
        low, high = high, min(high + step, most)
    while high - low > max(1e-3 * high, 0.5):
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
