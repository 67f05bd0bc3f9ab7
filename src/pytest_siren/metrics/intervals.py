"""Confidence intervals of a rate of which so many independent observations were made."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

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
