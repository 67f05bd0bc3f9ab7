"""How many runs it would take to decide, and how small a difference paired runs can show."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

from pytest_siren.metrics.estimates import Estimate
from pytest_siren.metrics.intervals import all_or_none, mid_p

_MOST_PAIRS = 10**9
_MOST_RUNS = 10_000_000
"""Runs beyond which nobody would wait."""


def power(difference: float, deviation: float, pairs: float, *, confidence: float = 0.95) -> float:
    """Return the probability that a two-sided paired t test shows a true ``difference``.

    ``deviation`` is the standard deviation of the differences of pairs. Source: Cohen 1988,
    *Statistical Power Analysis for the Behavioral Sciences*, 2.3.5, by the non-central t
    distribution. Raises ``ValueError`` unless ``deviation > 0`` and ``pairs >= 2``.
    """
    if not deviation > 0.0 or pairs < 2:
        raise ValueError(f"power needs a deviation above 0 and two pairs, not {deviation}, {pairs}")
    critical = float(student.ppf((1.0 + confidence) / 2.0, pairs - 1))
    shift = abs(difference) / deviation * sqrt(pairs)
    freedom = pairs - 1
    upper, lower = nct.sf(critical, freedom, shift), nct.cdf(-critical, freedom, shift)
    # The wrong tail of a large difference is next to 0, and SciPy may give NaN for it.
    return float(np.nan_to_num(upper) + np.nan_to_num(lower))


def minimum_detectable(
    deviation: float, pairs: float, *, wanted: float = 0.8, confidence: float = 0.95
) -> float:
    """Return the smallest difference that is shown with the probability ``wanted``."""

    def lacking(difference: float) -> float:
        return power(difference, deviation, pairs, confidence=confidence) - wanted

    upper = deviation / sqrt(pairs)
    while lacking(upper) < 0.0:
        upper *= 2.0
    return float(brentq(lacking, 0.0, upper, xtol=1e-9))


def pairs_needed(
    difference: float, deviation: float, *, wanted: float = 0.8, confidence: float = 0.95
) -> int | None:
    """Return the pairs that show ``difference`` with the probability ``wanted``.

    ``None`` where more than a billion were needed, as for a difference of 0.
    """

    def lacking(pairs: float) -> float:
        return power(difference, deviation, pairs, confidence=confidence) - wanted

    upper = 2.0
    while lacking(upper) < 0.0:
        upper *= 2.0
        if upper > _MOST_PAIRS:
            return None
    return ceil(brentq(lacking, 2.0, upper)) if upper > 2.0 else 2


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

    few, enough = found.runs, max(_MOST_RUNS, found.runs)
    if clear(few):
        return 0
    if not clear(enough):
        return None
    while enough - few > max(1, few // 1000):
        middle = (few + enough) // 2
        few, enough = (few, middle) if clear(middle) else (middle, enough)
    return ceil(enough - found.runs)
