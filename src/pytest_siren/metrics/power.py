"""How many runs it would take to decide."""

from __future__ import annotations

from math import ceil

from pytest_siren.metrics.estimates import Estimate
from pytest_siren.metrics.intervals import all_or_none, mid_p

_MOST = 10_000_000
"""Runs beyond which nobody would wait."""


def more_runs(found: Estimate, bound: float, confidence: float = 0.95) -> int | None:
    """Return about how many more runs would bring the interval of ``found`` clear of ``bound``.

    It is assumed that the rate stays as it is, and that further runs are like the present ones: as
    many for each task, of further tasks that are as much alike. More runs of the same tasks say
    less than that where a task's runs are alike. 0 when the interval is clear already; ``None``
    when the rate is the bound itself, or when ten million runs would not do.
    """
    if found.value == bound:
        return None

    def clear(runs: float) -> bool:
        times = runs / found.runs
        if found.value in (0.0, 1.0):
            reach = all_or_none(found.effective * times, confidence)
            return reach < abs(found.value - bound)
        low, high = mid_p(found.value, found.effective * times, confidence)
        return bool(high < bound or low > bound)

    few, enough = found.runs, max(_MOST, found.runs)
    if clear(few):
        return 0
    if not clear(enough):
        return None
    while enough - few > max(1, few // 1000):
        middle = (few + enough) // 2
        few, enough = (few, middle) if clear(middle) else (middle, enough)
    return ceil(enough - found.runs)
