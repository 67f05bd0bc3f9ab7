"""Effect sizes, statistical power, and meta-analysis over datasets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import chi2, nct, wilcoxon
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]

_MOST_VALUES = 2_000
"""Number of distinct differences up to which all their Walsh averages are computed."""
_TIED = 1e-9
"""Differences whose sizes are this close count as equal."""


@dataclass(frozen=True)
class Effects:
    """Effect sizes of the differences of pairs, second minus first side."""

    hodges_lehmann: float
    cohen_d: float | None
    """``None`` if all differences are equal."""
    cliff_delta: float
    wilcoxon_p: float | None
    """``None`` where pairs are not independent."""


def effects(before: Floats, after: Floats, *, independent: bool = True) -> Effects:
    """Return all effect sizes of the pairs, and p if these are ``independent``.

    Raises ``ValueError`` without any pair.
    """
    differences = after - before
    return Effects(
        hodges_lehmann=hodges_lehmann(differences),
        cohen_d=cohen_d(differences),
        cliff_delta=cliff_delta(before, after),
        wilcoxon_p=wilcoxon_p(differences) if independent else None,
    )


def hodges_lehmann(differences: Floats) -> float:
    """Return the median of all Walsh averages ``(x_i + x_j) / 2`` with ``i <= j``.

    Source: Hodges and Lehmann 1963, Annals of Mathematical Statistics 34, 598-611. Equal
    differences are counted, not repeated, so it is exact up to 2,000 distinct ones, however many
    pairs there are; above, 2,000 evenly spaced quantiles stand for them. Raises ``ValueError``
    without any difference.
    """
    if not len(differences):
        raise ValueError("no differences to take the median of")
    values, counts = np.unique(differences, return_counts=True)
    if len(values) > _MOST_VALUES:
        places = (np.arange(_MOST_VALUES) + 0.5) / _MOST_VALUES
        values = np.quantile(differences, places)
        counts = np.ones(_MOST_VALUES, dtype=np.int64)
    first, second = np.triu_indices(len(values))
    averages = (values[first] + values[second]) / 2.0
    same = counts * (counts + 1) // 2
    weights = np.where(first == second, same[first], counts[first] * counts[second])
    order = np.argsort(averages, kind="stable")
    upto = np.cumsum(weights[order])
    total = int(upto[-1])
    lower, upper = np.searchsorted(upto, [(total - 1) // 2, total // 2], side="right")
    return float((averages[order][lower] + averages[order][upper]) / 2.0)


def cohen_d(differences: Floats) -> float | None:
    """Return Cohen's d_z: the mean difference in standard deviations *of the differences*.

    Source: Cohen 1988, *Statistical Power Analysis*, 2.3.5; named d_z in Lakens 2013, Frontiers in
    Psychology 4:863. ``None`` if all differences are equal, or there is only one.
    """
    if len(differences) < 2:
        return None
    spread = float(np.std(differences, ddof=1))
    return float(np.mean(differences)) / spread if spread > 1e-12 else None


def cliff_delta(before: Floats, after: Floats) -> float:
    """Return Cliff's delta, -1..1: ``P(after > before) - P(after < before)``.

    It compares each value of one side with each of the other and does not use the pairing. Source:
    Cliff 1993, Psychological Bulletin 114, 494-509. Raises ``ValueError`` if a side is empty.
    """
    if not len(before) or not len(after):
        raise ValueError("Cliff's delta needs values on both sides")
    ordered = np.sort(before)
    below = np.searchsorted(ordered, after, side="left").sum()
    above = len(before) * len(after) - np.searchsorted(ordered, after, side="right").sum()
    return float(int(below) - int(above)) / (len(before) * len(after))


def wilcoxon_p(differences: Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test.

    Pairs that do not differ are left out; where none differs, p is 1. Source: Wilcoxon 1945,
    Biometrics Bulletin 1, 80-83; by ``scipy.stats.wilcoxon``.
    """
    sizes = np.abs(differences)
    order = np.argsort(sizes)
    # Differences of equal size must tie; as floats, thirds differ by rounding errors.
    steps = np.diff(sizes[order], prepend=0.0) > _TIED
    ranks = np.empty(len(sizes))
    ranks[order] = np.cumsum(steps)
    differing = (np.sign(differences) * ranks)[ranks > 0.0]
    if not len(differing):
        return 1.0
    with warnings.catch_warnings():
        # Older versions of SciPy warn of small samples with ties.
        warnings.simplefilter("ignore", UserWarning)
        return float(wilcoxon(differing).pvalue)


_MOST_PAIRS = 10**9


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
    # The far tail of a large difference is close to 0, and SciPy may return NaN for it.
    return float(np.nan_to_num(upper) + np.nan_to_num(lower))


def minimum_detectable(
    deviation: float, pairs: float, *, wanted: float = 0.8, confidence: float = 0.95
) -> float:
    """Return the smallest difference that the test detects with the probability ``wanted``."""

    def lacking(difference: float) -> float:
        return power(difference, deviation, pairs, confidence=confidence) - wanted

    upper = deviation / sqrt(pairs)
    while lacking(upper) < 0.0:
        upper *= 2.0
    return float(brentq(lacking, 0.0, upper, xtol=1e-9))


def pairs_needed(
    difference: float, deviation: float, *, wanted: float = 0.8, confidence: float = 0.95
) -> int | None:
    """Return the number of pairs that detect ``difference`` with the probability ``wanted``.

    ``None`` if more than a billion are needed, as for a difference of 0.
    """

    def lacking(pairs: float) -> float:
        return power(difference, deviation, pairs, confidence=confidence) - wanted

    upper = 2.0
    while lacking(upper) < 0.0:
        upper *= 2.0
        if upper > _MOST_PAIRS:
            return None
    return ceil(brentq(lacking, 2.0, upper)) if upper > 2.0 else 2


@dataclass(frozen=True)
class Pooled:
    """A mean over studies, with its interval."""

    value: float
    low: float
    high: float
    error: float
    p: float
    """Two-sided."""


@dataclass(frozen=True)
class MetaAnalysis:
    """A fixed-effect and a random-effects mean over studies, and their heterogeneity."""

    studies: int
    fixed: Pooled
    """The fixed-effect mean: all studies have the same true difference."""
    random: Pooled
    """The random-effects mean: true differences follow a normal distribution."""
    q: float
    """Cochran's Q."""
    q_p: float
    """p of the null hypothesis that all studies have the same true difference."""
    i_squared: float
    """Share of the variation that is not sampling error, 0..1."""
    tau_squared: float
    """Variance of the true differences."""


def meta_analysis(
    values: Sequence[float], errors: Sequence[float], *, confidence: float = 0.95
) -> MetaAnalysis:
    """Pool ``values``, one for each study, with their standard ``errors``.

    Source: DerSimonian and Laird 1986, Controlled Clinical Trials 7, 177-188, for the variance
    between studies; I squared: Higgins and Thompson 2002, Statistics in Medicine 21, 1539-1558. The
    interval of the random-effects mean is that of Hartung, Knapp, Sidik and Jonkman. Raises
    ``ValueError`` with fewer than two studies or with an error that is not above 0.
    """
    effects, variances = np.asarray(values, np.float64), np.asarray(errors, np.float64) ** 2
    if len(effects) < 2 or len(effects) != len(variances) or not np.all(variances > 0.0):
        raise ValueError("a meta-analysis needs two studies or more, with errors above 0")
    weights = 1.0 / variances
    mean = float(np.sum(weights * effects) / np.sum(weights))
    q = float(np.sum(weights * (effects - mean) ** 2))
    freedom = len(effects) - 1
    scale = float(np.sum(weights) - np.sum(weights**2) / np.sum(weights))
    between = max(0.0, (q - freedom) / scale)
    spread = 1.0 / (variances + between)
    return MetaAnalysis(
        studies=len(effects),
        fixed=_pooled(mean, 1.0 / sqrt(float(np.sum(weights))), inf, confidence),
        random=_random_effects(effects, spread, confidence),
        q=q,
        q_p=float(chi2.sf(q, freedom)),
        i_squared=max(0.0, (q - freedom) / q) if q > 0.0 else 0.0,
        tau_squared=between,
    )


def _random_effects(effects: Floats, weights: Floats, confidence: float) -> Pooled:
    """Return the weighted mean with the interval of Hartung, Knapp, Sidik and Jonkman.

    The normal interval of DerSimonian and Laird covers 80 to 92 % with two to six studies. Source:
    Hartung and Knapp 2001, Statistics in Medicine 20, 3875-3889; Sidik and Jonkman 2002, Statistics
    in Medicine 21, 3153-3159; never narrower than with the standard error of DerSimonian and Laird,
    as Roever, Knapp and Friede 2015, BMC Medical Research Methodology 15:99, recommend for few
    studies.
    """
    total, freedom = float(np.sum(weights)), len(effects) - 1
    mean = float(np.sum(weights * effects)) / total
    found = float(np.sum(weights * (effects - mean) ** 2)) / freedom
    return _pooled(mean, sqrt(max(1.0, found) / total), freedom, confidence)


def _pooled(value: float, error: float, freedom: float, confidence: float) -> Pooled:
    """Return the interval by Student's t; that of an infinite ``freedom`` is the normal one."""
    half = float(stdtrit(freedom, (1.0 + confidence) / 2.0)) * error
    p = 2.0 * float(stdtr(freedom, -abs(value) / error))
    return Pooled(value, value - half, value + half, error, p)
