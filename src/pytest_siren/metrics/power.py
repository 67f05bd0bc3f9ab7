"""How small a difference paired runs can show."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

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
