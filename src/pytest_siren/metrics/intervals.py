"""Confidence intervals of rates."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson(mean: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a mean of ``n`` values from 0..1, both ends within 0..1.

    ``n`` is the number of tasks, not of runs. The rate speaks of tasks that might have been drawn;
    the runs of one task resemble each other, so a further run of the same task says less than a
    further task, and counting runs would give intervals that are too narrow. Task means vary at
    most as much as values that are only 0 or 1 and have the same mean, so the interval, made for
    the latter, is conservative for the former.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22, 209-212; without continuity correction.
    Raises ``ValueError`` unless ``0 <= mean <= 1``, ``n >= 1`` and ``0 < confidence < 1``.
    """
    if not (0.0 <= mean <= 1.0 and n >= 1 and 0.0 < confidence < 1.0):
        raise ValueError(
            "an interval needs a mean within 0..1, n >= 1 and a confidence between 0 and 1, "
            f"not mean={mean}, n={n}, confidence={confidence}"
        )
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    shrink = 1.0 + z * z / n
    centre = (mean + z * z / (2 * n)) / shrink
    half = z * sqrt(mean * (1.0 - mean) / n + z * z / (4.0 * n * n)) / shrink
    # Near 0 and 1 rounding would leave the interval beside the mean.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
