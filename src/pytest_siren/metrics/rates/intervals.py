"""Means of values from 0 to 1 with confidence intervals that respect clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, fsum, inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, stdtrit

from pytest_siren.metrics.rates.choices import Estimate

Floats = npt.NDArray[np.float64]

_HALVINGS = 32


def all_or_none(clusters: float, confidence: float = 0.95) -> float:
    """Return how far the rate may lie from what every one of ``clusters`` showed.

    Where none of ``n`` independent clusters holds a success, the exact upper limit of the rate is
    ``1 - (alpha / 2) ** (1 / n)``, however alike the units of one cluster are; where all succeed,
    it is as far below 1. Source: Clopper and Pearson 1934, "The use of confidence or fiducial
    limits", Biometrika 26, 404-413, for x = 0.
    """
    tail = (1.0 - confidence) / 2.0
    return float(-np.expm1(np.log(tail) / clusters))


def mid_p(
    mean: float | Floats, size: float | Floats, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the mid-P interval of a ``mean`` of ``size`` observations, both ends within 0..1.

    It holds the rates p of which neither P(X > x) + P(X = x) / 2 nor P(X < x) + P(X = x) / 2 is
    less than alpha / 2, for x = mean * size successes; with incomplete beta functions in the place
    of the sums, neither number needs to be whole. Exact intervals (Clopper-Pearson) keep 95 % at
    the worst rate and hold far more elsewhere, Wilson's falls to 92 % where few successes are
    expected; this one stays near 95 %. Where all or none succeed it is Clopper-Pearson's.

    Source: Lancaster 1961, "Significance tests in discrete distributions", Journal of the American
    Statistical Association 56, 223-234; recommended by Agresti and Gottard 2007, "Nonconservative
    exact small-sample inference for discrete data", Computational Statistics & Data Analysis 51,
    6447-6458. Arrays are taken together; raises ``ValueError`` unless ``0 <= mean <= 1``, ``size >
    0`` and ``0 < confidence < 1``.
    """
    means, sizes = np.broadcast_arrays(
        np.asarray(mean, dtype=np.float64), np.asarray(size, dtype=np.float64)
    )
    if not (np.all((means >= 0) & (means <= 1) & (sizes > 0)) and 0.0 < confidence < 1.0):
        raise ValueError(
            "an interval needs a mean within 0..1, a size above 0 and a confidence between 0 and "
            f"1, not mean={mean}, size={size}, confidence={confidence}"
        )
    tail = (1.0 - confidence) / 2.0
    lower, upper = _limits(np.stack([means, 1.0 - means]), sizes, tail)
    low = np.where(means > 0.0, lower, 0.0)
    high = np.where(means < 1.0, 1.0 - upper, 1.0)
    # Rounding would leave the interval beside the mean near 0 and 1.
    return np.minimum(low, means), np.maximum(high, means)


def _limits(means: Floats, sizes: Floats, tail: float) -> Floats:
    """Return the lower limits: rates at which x or more successes, half of x itself, are rare."""
    x = np.maximum(means * sizes, np.finfo(np.float64).tiny)
    rest = np.maximum(sizes - x, 0.0)
    full = rest <= 1e-9 * sizes
    rest = np.where(full, 1.0, rest)
    # P(X >= x) is larger than the mid-P tail and P(X > x) smaller, so their limits bracket it.
    low, high = betaincinv(x, rest + 1.0, tail), betaincinv(x + 1.0, rest, tail)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        above = betainc(x, rest + 1.0, middle) + betainc(x + 1.0, rest, middle) > 2.0 * tail
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(full, tail ** (1.0 / sizes), (low + high) / 2.0)


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
    n_eff_if_identical: float
    """Independent observations that the units are worth if those of a cluster are all the same."""
    variance: float
    """Variance of ``mean``, from the spread between clusters; infinite for a single cluster."""


def cluster_variance(values: Floats, clusters: Ints | None) -> Clusters:
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
    if raw > found.n_eff_if_identical:
        weight = exp(-((fewer / _ENOUGH) ** _STEEP))
        size = raw ** (1.0 - weight) * found.n_eff_if_identical**weight
    tail = (1.0 + confidence) / 2.0
    degrees = max(runs, found.number) - 1
    factor = float(stdtrit(degrees, tail) / stdtrit(found.number - 1, tail)) ** 2
    between = max(1.0 - size * factor / runs, 0.0)
    return float(min(size * factor ** sqrt(between), runs))


_LEAST = 1e-12
"""A value below it is taken for 0."""


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
    found = cluster_variance(values, clusters)
    number = found.number
    if number == 1 and len(values) > 1:
        found = cluster_variance(values, None)
    if len(values) == 1:
        size = float(max(runs // k, 1))
        found = replace(found, number=int(size))
    else:
        size = effective_size(found, runs, confidence)
    low, high, method = _interval(found, size, confidence)
    return Estimate(found.mean, low, high, len(values), runs, number, method, size)


def estimate_with_undecided(
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
