"""How many independent observations the units of a rate are worth."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, fsum, inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ENOUGH = 3.0
"""Successes from which on the spread between clusters tells how alike the runs of one are."""
_STEEP = 4


@dataclass(frozen=True)
class Clusters:
    """What an interval needs to know of units in clusters."""

    mean: float
    """Mean over units."""
    number: int
    """Clusters."""
    alike: float
    """Independent observations that the units are worth if those of a cluster are all the same."""
    variance: float
    """Variance of ``mean``, from the spread between clusters; infinite for a single cluster."""


def describe(values: Floats, clusters: Ints | None) -> Clusters:
    """Return mean and variance of ``values``, one for each unit, whatever their order.

    The variance is ``G / (G - 1) * sum over clusters of (sum of (value - mean)) ** 2 / units **
    2``, for ``G`` clusters: the linearised variance of a mean under cluster sampling with
    replacement. It holds whatever the values within a cluster have in common. Source: Cochran 1977,
    "Sampling Techniques", 3rd edition, on clusters of unequal sizes.
    """
    units = len(values)
    mean = min(max(fsum(values.tolist()) / units, 0.0), 1.0)
    if clusters is None:
        residuals: Floats = values - mean
        sizes: Floats = np.ones(units)
    else:
        # Sorted, so that sums do not depend on the order in which runs ended.
        order = np.lexsort((values, clusters))
        _, members = np.unique(clusters, return_inverse=True)
        residuals = np.bincount(members[order], weights=values[order] - mean).astype(np.float64)
        sizes = np.bincount(members).astype(np.float64)
    number = len(sizes)
    variance = inf
    if number > 1:
        variance = number / (number - 1) * fsum((residuals**2).tolist()) / units**2
    return Clusters(mean, number, units**2 / float(np.sum(sizes**2)), variance)


def effective_size(found: Clusters, runs: int, confidence: float = 0.95) -> float:
    """Return the number of independent observations whose mean would be as uncertain.

    It is ``mean * (1 - mean) / variance``, never more than ``runs``, and less by up to
    ``(t(runs - 1) / t(clusters - 1)) ** 2`` for the quantiles of Student's t at ``confidence``,
    since the variance is itself an estimate. Source: Korn and Graubard 1998, "Confidence intervals
    for proportions with small expected number of positive counts estimated from survey data",
    Survey Methodology 24, 193-201.

    They take that factor in full, as is right where runs are all the same and only clusters tell
    the variance. Where they are independent every run tells it, and with few successes intervals
    would hold more than 98 %. So it is raised to the power ``sqrt(1 - size / runs)``, for ``size``
    with the factor in full: the share, as standard errors go, of what may lie between clusters. Few
    clusters that happen to look alike keep nearly all of the factor, as they may differ all the
    same. The root was chosen by simulation.

    With few successes the spread between clusters says next to nothing of how alike runs are: a
    single success looks like independent runs in any case. There the variance is drawn, on the
    scale of logarithms, towards that of clusters whose runs are all the same, with the weight
    ``exp(-(x / 3) ** 4)`` for x effective successes or failures, whichever are fewer: next to 1
    below 2, next to 0 above 4. Chosen by simulation (``benchmarks/coverage.py``); without it
    intervals hold as little as 88 % at a rate of 1 %.

    Where all or none succeed there is no spread, and it is the number of clusters. ``found`` must
    have two clusters at least.
    """
    binomial = found.mean * (1.0 - found.mean)
    if binomial <= 0.0:
        return float(found.number)
    # Values that are all the same, such as 0.5, have no spread.
    raw = binomial / max(found.variance, binomial / (10.0 * runs))
    fewer = min(found.mean, 1.0 - found.mean) * raw
    size = raw
    if raw > found.alike:
        weight = exp(-((fewer / _ENOUGH) ** _STEEP))
        size = raw ** (1.0 - weight) * found.alike**weight
    tail = (1.0 + confidence) / 2.0
    degrees = max(runs, found.number) - 1
    factor = float(stdtrit(degrees, tail) / stdtrit(found.number - 1, tail)) ** 2
    between = max(1.0 - size * factor / runs, 0.0)
    return float(min(size * factor ** sqrt(between), runs))
