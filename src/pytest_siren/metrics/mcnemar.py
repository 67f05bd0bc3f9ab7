"""Exact McNemar: whether successes became failures as often as the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """What the pairs say whose two sides differ."""

    gained: int
    """Pairs that only the second side succeeded in."""
    lost: int
    """Pairs that only the first side succeeded in."""
    p: float
    """Two-sided."""
    odds_ratio: float
    """``(gained + 0.5) / (lost + 0.5)``."""
    low: float
    high: float
    """Its interval."""


def mcnemar(gained: int, lost: int, *, confidence: float = 0.95) -> McNemar:
    """Test discordant pairs by the exact two-sided binomial test with probability 1/2.

    Source: McNemar 1947, Psychometrika 12, 153-157; the exact conditional form as in Fagerland,
    Lydersen and Laake 2013, BMC Medical Research Methodology 13:91. The odds ratio has 0.5 added to
    either count (Haldane 1956, Anscombe 1956), its interval is Wald's on the logarithm.
    Raises ``ValueError`` for negative counts.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts of pairs cannot be negative: {gained}, {lost}")
    total = gained + lost
    p = float(binomtest(gained, total, 0.5).pvalue) if total else 1.0
    upper, lower = gained + 0.5, lost + 0.5
    half = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * sqrt(1.0 / upper + 1.0 / lower)
    centre = log(upper / lower)
    return McNemar(gained, lost, p, upper / lower, exp(centre - half), exp(centre + half))
