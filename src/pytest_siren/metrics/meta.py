"""Differences of several datasets or suites taken together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from scipy.stats import chi2


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
    """What several studies say together, and how much they disagree."""

    studies: int
    fixed: Pooled
    """As if all studies had the same true difference."""
    random: Pooled
    """As if their true differences were drawn from a normal distribution."""
    q: float
    """Cochran's Q."""
    q_p: float
    """Of the hypothesis that all studies have the same true difference."""
    i_squared: float
    """Share of the variation that is more than chance, 0..1."""
    tau_squared: float
    """Variance of the true differences."""


def meta_analysis(
    values: Sequence[float], errors: Sequence[float], *, confidence: float = 0.95
) -> MetaAnalysis:
    """Pool ``values``, one for each study, with their standard ``errors``.

    Source: DerSimonian and Laird 1986, Controlled Clinical Trials 7, 177-188; I squared: Higgins
    and Thompson 2002, Statistics in Medicine 21, 1539-1558. Raises ``ValueError`` with fewer than
    two studies or with an error that is not above 0.
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
        fixed=_pooled(mean, float(np.sum(weights)), confidence),
        random=_pooled(
            float(np.sum(spread * effects) / np.sum(spread)), float(np.sum(spread)), confidence
        ),
        q=q,
        q_p=float(chi2.sf(q, freedom)),
        i_squared=max(0.0, (q - freedom) / q) if q > 0.0 else 0.0,
        tau_squared=between,
    )


def _pooled(value: float, weight: float, confidence: float) -> Pooled:
    error = 1.0 / sqrt(weight)
    normal = NormalDist()
    half = normal.inv_cdf((1.0 + confidence) / 2.0) * error
    p = 2.0 * normal.cdf(-abs(value) / error)
    return Pooled(value, value - half, value + half, error, p)
