"""The mean of paired differences with an interval that holds also where hardly any pair differs."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """A mean difference, -1..1, with its interval."""

    value: float
    low: float
    high: float
    error: float
    """Standard error, never 0."""
    units: int
    """Tasks or couples that it is the mean of."""
    clusters: int
    """Clusters of units that resemble each other; the degrees of freedom are one less."""

    def quantile(self, probability: float) -> float:
        """Return the t quantile that intervals and tests of this difference use."""
        return float(student.ppf(probability, self.clusters - 1))


def mean_difference(
    values: Floats, clusters: Ints | None = None, *, confidence: float = 0.95
) -> Difference:
    """Return the mean of ``values``, one difference for each unit, each from -1..1.

    ``clusters`` holds a number for each unit, the same for units that resemble each other.

    The interval is that of Agresti and Min 2005, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24, 729-740: Wald's, after half a pair
    was added to each of the four cells. So it has a width where no pair differs. Here it is written
    for any differences (add 2 units, of which half a one is 1 and half a one is -1), with the
    number of units divided by the design effect that the clusters show (Kish 1965, *Survey
    Sampling*, 8.2), and with t instead of normal quantiles. A single cluster tells nothing: -1..1.
    Raises ``ValueError`` without any value.
    """
    units = len(values)
    if not units:
        raise ValueError("a difference needs at least one pair")
    mean = float(np.mean(values))
    groups = np.arange(units) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    number = int(groups.max()) + 1
    if number < 2:
        return Difference(mean, -1.0, 1.0, 1.0, units, number)
    spread = float(np.mean((values - mean) ** 2))
    effective = units / _design_effect(values - mean, groups, number, spread)
    total = effective + 2.0
    centre = effective * mean / total
    squares = effective * (spread + mean**2) + 1.0
    error = sqrt(squares - total * centre**2) / total
    half = float(student.ppf((1.0 + confidence) / 2.0, number - 1)) * error
    low, high = max(-1.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
    return Difference(mean, low, high, error, units, number)


def _design_effect(residuals: Floats, groups: Ints, number: int, spread: float) -> float:
    """Return how many times larger the clusters make the variance of the mean, at least 1."""
    units = len(residuals)
    if not spread:
        # Nothing tells how alike the units of a cluster are: suppose that they are the same.
        return units / number
    totals = np.bincount(groups, weights=residuals, minlength=number)
    clustered = number / (number - 1) * float(np.sum(totals**2)) / units**2
    return max(1.0, clustered / (spread / (units - 1)))
