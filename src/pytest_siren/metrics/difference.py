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
    """Standard error: half the interval in t quantiles. Never 0."""
    units: int
    """Tasks or couples that it is the mean of."""
    clusters: int
    """Clusters of units that resemble each other; the degrees of freedom are one less."""


def mean_difference(
    values: Floats, clusters: Ints | None = None, *, confidence: float = 0.95
) -> Difference:
    """Return the mean of ``values``, one difference for each unit, each from -1..1.

    ``clusters`` holds a number for each unit, the same for units that resemble each other.

    The mean is that of the gains, ``max(value, 0)``, less that of the losses. Each of the two, a
    mean of values from 0..1, has Wilson's score interval, which has a width also where nothing was
    gained or lost; the intervals are joined by the square-and-add method, with the correlation of
    gains and losses: Newcombe 1998, Statistics in Medicine 17, 2635-2650; Zou and Donner 2008,
    Statistics in Medicine 27, 1693-1702. The number of units in Wilson's formula is the effective
    one, that by which clusters vary as they do (Kish 1965, *Survey Sampling*, 8.2; at least the
    number of clusters, and that where they do not vary), and quantiles are those of t with one
    degree of freedom less than there are clusters. A single cluster tells nothing: -1..1. Raises
    ``ValueError`` without any value.
    """
    units = len(values)
    if not units:
        raise ValueError("a difference needs at least one pair")
    value = float(np.mean(values))
    groups = np.arange(units) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    number = int(groups.max()) + 1
    if number < 2:
        return Difference(value, -1.0, 1.0, 1.0, units, number)
    quantile = float(student.ppf((1.0 + confidence) / 2.0, number - 1))
    gains, losses = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    spread = _covariance(gains, losses, groups, number)
    gain, gain_low, gain_high = _score(gains, spread[0, 0], number, quantile)
    loss, loss_low, loss_high = _score(losses, spread[1, 1], number, quantile)
    scale = sqrt(spread[0, 0] * spread[1, 1])
    correlation = max(-1.0, min(1.0, spread[0, 1] / scale)) if scale > 0.0 else 0.0
    low = max(-1.0, value - _joined(gain - gain_low, loss_high - loss, correlation))
    high = min(1.0, value + _joined(gain_high - gain, loss - loss_low, correlation))
    return Difference(value, low, high, (high - low) / 2.0 / quantile, units, number)


def _covariance(gains: Floats, losses: Floats, groups: Ints, number: int) -> Floats:
    """Return the covariance of the two means when whole clusters are drawn, shape ``(2, 2)``."""
    totals = np.stack(
        [
            np.bincount(groups, weights=part - part.mean(), minlength=number)
            for part in (gains, losses)
        ]
    )
    same: Floats = totals @ totals.T * (number / (number - 1)) / len(gains) ** 2
    return same


def _score(
    parts: Floats, variance: float, clusters: int, quantile: float
) -> tuple[float, float, float]:
    """Return a mean of values from 0..1 with both ends of Wilson's interval."""
    mean = float(parts.mean())
    largest = mean * (1.0 - mean)
    effective = max(float(clusters), largest / variance) if variance > 1e-15 else float(clusters)
    square = quantile**2 / effective
    centre = (mean + square / 2.0) / (1.0 + square)
    half = sqrt(square * (largest + square / 4.0)) / (1.0 + square)
    return mean, min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))


def _joined(one: float, other: float, correlation: float) -> float:
    return sqrt(max(0.0, one**2 + other**2 - 2.0 * correlation * one * other))
