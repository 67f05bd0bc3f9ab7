"""Means of values from 0..1 with confidence intervals that respect clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan

import numpy as np
import numpy.typing as npt

from pytest_siren.metrics.effective import Clusters, describe, effective_size
from pytest_siren.metrics.intervals import all_or_none, mid_p

_LEAST = 1e-12
"""A value below it is taken for 0."""


@dataclass(frozen=True)
class Estimate:
    """A mean over units with its interval; all of 0..1."""

    value: float
    low: float
    high: float
    units: int
    """Tasks or couples, in one configuration each, that it is the mean of."""
    runs: int
    """Runs behind them."""
    clusters: int
    """Clusters of units that resemble each other."""
    method: str
    """How the interval was made: ``mid-P``, or ``exact`` where all or none succeeded."""
    effective: float = nan
    """Independent observations that would leave the mean as uncertain as it is."""
    short: int = 0
    """Units left out, because they have fewer runs than the measure needs."""


def estimate(
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.int64] | None = None,
    *,
    runs: int,
    k: int = 1,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of ``values``, one for each unit, with its interval.

    ``clusters`` holds a number for each unit, the same for units that resemble each other; without
    it every unit is a cluster of its own. ``runs`` is the number of runs behind all values, and
    ``k`` how many of them each value needs at least (that of pass@k).

    The interval is for the mean over tasks that might have been drawn, clusters being independent:
    an effective number of observations (``effective_size``) in a mid-P interval (``mid_p``), and
    exact where all or none succeed (``all_or_none``). For 20 tasks or more with up to 10 runs of
    each it holds the true rate about 93 % of the time at least, at a nominal 95 %, however alike
    the runs are; with 20 runs of each about 92 % (``docs/explanation/statistics.md``).

    Where all units are of one cluster, nothing can be said of others: the interval is for this
    cluster, and its units are the independent observations. Likewise for a single unit, whose runs
    are: for ``k`` > 1, one for each ``k`` of them, which is at most what they are worth (Hoeffding
    1948, "A class of statistics with asymptotically normal distribution", Annals of Mathematical
    Statistics 19, 293-325, section 5).

    Raises ``ValueError`` without any value, or when one is not of 0..1.
    """
    if not len(values):
        raise ValueError("an estimate needs at least one value")
    if not (np.min(values) >= 0.0 and np.max(values) <= 1.0):
        raise ValueError("an estimate needs values within 0..1")
    # Squares of numbers that small are no numbers any more.
    values = np.where(values < _LEAST, 0.0, values)
    found = describe(values, clusters)
    number = found.number
    if number == 1 and len(values) > 1:
        found = describe(values, None)
    if len(values) == 1:
        size = float(max(runs // k, 1))
        found = replace(found, number=int(size))
    else:
        size = effective_size(found, runs, confidence)
    low, high, method = _interval(found, size, confidence)
    return Estimate(found.mean, low, high, len(values), runs, number, method, size)


def bounded(
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.int64],
    undecided: npt.NDArray[np.int64],
    *,
    runs: int,
    k: int = 1,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of ``values`` as ``estimate``, its interval wide enough for what is open.

    ``undecided`` holds the clusters of further units whose value is not known yet, and more likely
    to be the one than the other: the interval holds those for all 0 and for all 1, after Manski
    1990, "Nonparametric bounds on treatment effects", American Economic Review 80, 319-323.
    """
    made = estimate(values, clusters, runs=runs, k=k, confidence=confidence)
    if not len(undecided):
        return made
    every = np.concatenate([clusters, undecided])
    ends = [
        estimate(
            np.concatenate([values, np.full(len(undecided), end)]),
            every,
            runs=runs + len(undecided),
            k=k,
            confidence=confidence,
        )
        for end in (0.0, 1.0)
    ]
    return replace(made, low=min(made.low, ends[0].low), high=max(made.high, ends[1].high))


def _interval(found: Clusters, size: float, confidence: float) -> tuple[float, float, str]:
    if found.mean == 0.0:
        return 0.0, all_or_none(found.number, confidence), "exact"
    if found.mean == 1.0:
        return 1.0 - all_or_none(found.number, confidence), 1.0, "exact"
    low, high = mid_p(found.mean, size, confidence)
    return float(low), float(high), "mid-P"
