"""The mean of paired differences: its interval, and tests against a margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, sqrt

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ENOUGH = 6.0
"""Gains and losses from which on their spread tells how alike the runs of a cluster are."""
_STEEP = 4


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
    one, that by which clusters vary as they do (Kish 1965, *Survey Sampling*; at least the
    number of clusters, and that where they do not vary), and quantiles are those of t with one
    degree of freedom less than there are clusters. A single cluster tells nothing: -1..1.

    With few gains and losses their spread says next to nothing of how alike the runs of a cluster
    are, as with a rate (``effective_size``). There the effective number is drawn, on the scale of
    logarithms, towards that of clusters, with the weight ``exp(-(x / 6) ** 4)`` for x effective
    gains and losses together. Chosen by simulation (``benchmarks/coverage_difference.py``); without
    it intervals hold as little as 89 % for ten runs of 100 tasks. Raises ``ValueError`` without any
    value.
    """
    found = moments(values, clusters)
    low, high = found.interval(confidence)
    if found.clusters < 2:
        return Difference(found.value, low, high, 1.0, len(values), int(found.clusters))
    quantile = float(student.ppf((1.0 + confidence) / 2.0, found.clusters - 1))
    error = (high - low) / 2.0 / quantile
    return Difference(found.value, low, high, error, len(values), int(found.clusters))


@dataclass(frozen=True)
class Moments:
    """What the interval of a mean difference is made of."""

    value: float
    gain: float
    """Mean of ``max(value, 0)``."""
    loss: float
    """Mean of ``max(-value, 0)``."""
    variance_gain: float
    variance_loss: float
    covariance: float
    """Of the two means, when whole clusters are drawn."""
    clusters: float

    @property
    def variance(self) -> float:
        """Variance of the mean difference; 0 where all differences are the same."""
        return max(0.0, self.variance_gain + self.variance_loss - 2.0 * self.covariance)

    def times(self, factor: float) -> Moments:
        """Return the moments of ``factor`` times as many clusters, which are like these."""
        return replace(
            self,
            variance_gain=self.variance_gain / factor,
            variance_loss=self.variance_loss / factor,
            covariance=self.covariance / factor,
            clusters=self.clusters * factor,
        )

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return both ends, as told at ``mean_difference``."""
        if self.clusters < 2:
            return -1.0, 1.0
        quantile = float(student.ppf((1.0 + confidence) / 2.0, self.clusters - 1))
        gain_size, loss_size = self._sizes()
        gain_low, gain_high = _score(self.gain, gain_size, quantile)
        loss_low, loss_high = _score(self.loss, loss_size, quantile)
        scale = sqrt(self.variance_gain * self.variance_loss)
        correlation = max(-1.0, min(1.0, self.covariance / scale)) if scale > 0.0 else 0.0
        low = self.value - _joined(self.gain - gain_low, loss_high - self.loss, correlation)
        high = self.value + _joined(gain_high - self.gain, self.loss - loss_low, correlation)
        return max(-1.0, low), min(1.0, high)

    def _sizes(self) -> tuple[float, float]:
        """Return how many independent observations gains, and losses, are worth."""
        gain = _effective(self.gain, self.variance_gain, self.clusters)
        loss = _effective(self.loss, self.variance_loss, self.clusters)
        weight = exp(-(((self.gain * gain + self.loss * loss) / _ENOUGH) ** _STEEP))
        drawn = self.clusters**weight
        return float(gain ** (1.0 - weight) * drawn), float(loss ** (1.0 - weight) * drawn)


def moments(values: Floats, clusters: Ints | None = None) -> Moments:
    """Return the moments of ``values``. Raises ``ValueError`` without any."""
    units = len(values)
    if not units:
        raise ValueError("a difference needs at least one pair")
    groups = np.arange(units) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    number = int(groups.max()) + 1
    gains, losses = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    spread = _covariance(gains, losses, groups, number) if number > 1 else np.zeros((2, 2))
    return Moments(
        value=float(np.mean(values)),
        gain=float(gains.mean()),
        loss=float(losses.mean()),
        variance_gain=float(spread[0, 0]),
        variance_loss=float(spread[1, 1]),
        covariance=float(spread[0, 1]),
        clusters=number,
    )


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


def _effective(mean: float, variance: float, clusters: float) -> float:
    largest = mean * (1.0 - mean)
    return max(clusters, largest / variance) if variance > 1e-15 else clusters


def _score(mean: float, size: float, quantile: float) -> tuple[float, float]:
    """Return both ends of Wilson's interval of a mean of ``size`` values from 0..1."""
    square = quantile**2 / size
    centre = (mean + square / 2.0) / (1.0 + square)
    half = sqrt(square * (mean * (1.0 - mean) + square / 4.0)) / (1.0 + square)
    return min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))


def _joined(one: float, other: float, correlation: float) -> float:
    return sqrt(max(0.0, one**2 + other**2 - 2.0 * correlation * one * other))


@dataclass(frozen=True)
class Tost:
    """Two one-sided t tests of a mean difference."""

    p_above: float
    """Of the hypothesis that the mean is not above the lower bound."""
    p_below: float
    """Of the hypothesis that the mean is not below the upper bound."""

    @property
    def p(self) -> float:
        """The larger of both: small where the mean is shown to lie between the bounds."""
        return max(self.p_above, self.p_below)


@dataclass(frozen=True)
class NonInferiority:
    """Whether a measure has worsened by less than a margin."""

    margin: float
    p: float
    """One-sided, of the hypothesis that it has worsened by the margin or more."""
    shown: bool


def tost(differences: Floats, low: float, high: float) -> Tost:
    """Return both one-sided tests of ``low < mean < high``. Alone, each is one of non-inferiority.

    Source: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680. Where all
    differences are the same, their mean is taken for certain. Raises ``ValueError`` with fewer than
    two differences, or unless ``low < high``.
    """
    n = len(differences)
    if n < 2 or not low < high:
        raise ValueError(f"a test needs two differences and low < high, not {n}, {low}, {high}")
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / n**0.5
    return Tost(_upper_tail(mean - low, error, n - 1), _upper_tail(high - mean, error, n - 1))


def non_inferior(
    difference: Difference, margin: float, *, higher_is_worse: bool, confidence: float = 0.95
) -> NonInferiority:
    """Test whether the measure has worsened by less than ``margin``, a share from 0 to 1.

    The one-sided t test of ``tost``, with the half of the interval of ``mean_difference`` on the
    side of what is worse in place of the standard error: so it respects clusters, is blind to
    nothing where no pair differs, and agrees with the interval. Raises ``ValueError`` for a margin
    that is not above 0.
    """
    if not margin > 0.0:
        raise ValueError(f"the margin must be above 0, not {margin}")
    freedom = difference.clusters - 1
    if freedom < 1:
        return NonInferiority(margin, 1.0, shown=False)
    value = difference.value
    worsening, half = (
        (value, difference.high - value) if higher_is_worse else (-value, value - difference.low)
    )
    error = half / float(student.ppf((1.0 + confidence) / 2.0, freedom))
    p = _upper_tail(margin - worsening, error, freedom)
    return NonInferiority(margin, p, shown=p < 1.0 - confidence)


def _upper_tail(distance: float, error: float, freedom: int) -> float:
    if error == 0.0:
        return 0.0 if distance > 0.0 else 1.0
    return float(student.sf(distance / error, freedom))
