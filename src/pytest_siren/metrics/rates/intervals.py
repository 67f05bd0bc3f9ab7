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
    """Return the width of the interval where all of ``clusters``, or none of them, succeeded.

    If none of ``n`` independent clusters holds a success, the exact upper limit of the rate is
    ``1 - (alpha / 2) ** (1 / n)``, however strongly the units of a cluster are correlated; if all
    succeed, the lower limit is as far below 1. Source: Clopper and Pearson 1934, "The use of
    confidence or fiducial limits", Biometrika 26, 404-413, for x = 0.
    """
    tail = (1.0 - confidence) / 2.0
    return float(-np.expm1(np.log(tail) / clusters))


def mid_p(
    mean: float | Floats, size: float | Floats, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the mid-P interval of a ``mean`` of ``size`` observations, both ends within 0..1.

    It contains the rates p for which neither P(X > x) + P(X = x) / 2 nor P(X < x) + P(X = x) / 2 is
    less than alpha / 2, for x = mean * size successes; incomplete beta functions replace the sums,
    so x and ``size`` need not be integers. The exact interval (Clopper-Pearson) covers 95 % at the
    worst rate and far more elsewhere, Wilson's covers only 92 % where few successes are expected;
    this one stays near 95 %. Where all or none succeed it equals Clopper-Pearson's.

    Source: Lancaster 1961, "Significance tests in discrete distributions", Journal of the American
    Statistical Association 56, 223-234; recommended by Agresti and Gottard 2007, "Nonconservative
    exact small-sample inference for discrete data", Computational Statistics & Data Analysis 51,
    6447-6458. Arrays are broadcast. Raises ``ValueError`` unless ``0 <= mean <= 1``, ``size > 0``
    and ``0 < confidence < 1``.
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
    # Near 0 and 1, rounding could exclude the mean from its own interval.
    return np.minimum(low, means), np.maximum(high, means)


def _limits(means: Floats, sizes: Floats, tail: float) -> Floats:
    """Return the lower limits: the rates at which P(X > x) + P(X = x) / 2 equals ``tail``."""
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
"""Successes from which the variance between clusters is a usable estimate of their correlation."""
_STEEP = 4


@dataclass(frozen=True)
class Clusters:
    """The mean over clustered units, and its variance."""

    mean: float
    """Mean over units."""
    number: int
    """Number of clusters."""
    n_eff_if_identical: float
    """Effective sample size if all units of a cluster had the same value."""
    variance: float
    """Variance of ``mean``, estimated between clusters; infinite for a single cluster."""


def cluster_variance(values: Floats, clusters: Ints | None) -> Clusters:
    """Return mean and variance of ``values``, one for each unit; their order does not matter.

    The variance is ``G / (G - 1) * sum over clusters of (sum of (value - mean)) ** 2 / units **
    2``, for ``G`` clusters: the linearised variance of a mean under cluster sampling with
    replacement. It is valid for any correlation within clusters. Source: Cochran 1977, "Sampling
    Techniques", 3rd edition, on clusters of unequal sizes.
    """
    units = len(values)
    mean = min(max(fsum(values.tolist()) / units, 0.0), 1.0)
    if clusters is None:
        residuals: Floats = values - mean
        sizes: Floats = np.ones(units)
    else:
        # Sorting makes the sums independent of the order in which runs ended.
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

    Korn and Graubard apply that factor in full, which is right if the runs of a cluster are
    identical, so that only clusters inform the variance. If runs are independent, each informs it,
    and with few successes intervals would cover more than 98 %. So the factor is raised to the
    power ``sqrt(1 - size / runs)``, with ``size`` computed with the full factor: the share of the
    standard error that may lie between clusters. Few clusters with similar values keep nearly all
    of the factor, since their similarity may be chance. The root was chosen by simulation.

    With few successes the variance between clusters hardly depends on the correlation within them:
    a single success looks like independent runs in any case. There the variance is shrunk, on the
    log scale, towards that of clusters with identical runs, with the weight ``exp(-(x / 3) ** 4)``
    for x effective successes or failures, whichever are fewer: near 1 below 2, near 0 above 4. The
    weight was chosen by simulation (``benchmarks/coverage.py``); without it intervals cover as
    little as 88 % at a rate of 1 %.

    If all or none succeed there is no variance, and the result is the number of clusters. ``found``
    must have at least two clusters.
    """
    binomial = found.mean * (1.0 - found.mean)
    if binomial <= 0.0:
        return float(found.number)
    # Identical values, such as 0.5, have no variance; the lower bound avoids dividing by 0.
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
"""Smaller values are treated as 0."""


def estimate(
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.int64] | None = None,
    *,
    runs: int,
    k: int = 1,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of ``values``, one for each unit, with its interval.

    ``clusters`` holds the cluster of each unit as a number; without it every unit is its own
    cluster. ``runs`` is the number of runs of all units, and ``k`` the least number of runs that a
    value needs (that of pass@k).

    The interval is for the mean over the population of tasks, whose clusters are independent: a
    mid-P interval (``mid_p``) for the effective sample size (``effective_size``), or an exact one
    where all or none succeed (``all_or_none``). At a nominal 95 %, with 20 tasks or more and up to
    10 runs of each, it covers the true rate at least 93 % of the time for any correlation of runs;
    with 20 runs of each about 92 % (``docs/explanation/statistics.md``).

    If all units are in one cluster, the data say nothing about others: the interval is for this
    cluster, with its units as independent observations. Likewise a single unit has its runs as
    observations, or for ``k`` > 1 one for each ``k`` runs, which is the most they are worth
    (Hoeffding 1948, "A class of statistics with asymptotically normal distribution", Annals of
    Mathematical Statistics 19, 293-325, section 5).

    Raises ``ValueError`` without any value, or for one outside 0..1.
    """
    if not len(values):
        raise ValueError("an estimate needs at least one value")
    if not (np.min(values) >= 0.0 and np.max(values) <= 1.0):
        raise ValueError("an estimate needs values within 0..1")
    # The squares of smaller values would underflow.
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
    """Return ``estimate`` of ``values``, with an interval that allows for undecided units.

    ``undecided`` holds the clusters of further units whose value, 0 or 1, is not yet known and not
    missing at random. The interval contains that for all of them at 0 and that for all at 1: Manski
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
