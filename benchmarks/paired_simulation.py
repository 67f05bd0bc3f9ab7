"""Made-up pairs of evaluations whose true difference is known, and how often intervals hold it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from scipy.stats import t as student

from benchmarks.simulation import BATCH, Coverage
from pytest_siren.metrics.compare.significance import bootstrap
from pytest_siren.metrics.rates.intervals import all_or_none

Floats = npt.NDArray[np.float64]

_KINDS = 10_000
"""Tasks of different difficulty that there are to draw from."""


@dataclass(frozen=True)
class Pair:
    """One kind of two evaluations of the same tasks."""

    tasks: int
    runs: int
    rate: float
    change: float
    """By how much the second rate is the higher one."""
    alike: float = 0.0
    """Correlation of the runs of one task on one side."""
    shared: float = 0.0
    """Share of tasks that are as hard, among tasks, for one side as for the other; the others are
    of a difficulty of their own on each side."""

    @property
    def quantiles(self) -> tuple[Floats, Floats]:
        """The rates of all kinds of tasks on either side, ascending."""
        return _quantiles(self.rate, self.alike), _quantiles(self.rate + self.change, self.alike)

    @property
    def truth(self) -> float:
        """The mean difference over all tasks that there are."""
        one, other = self.quantiles
        return float(other.mean() - one.mean())

    @property
    def differing(self) -> float:
        """Pairs of runs that are expected to differ, counted in independent observations."""
        one, other = self.quantiles
        together = self.shared * float(np.mean(one * (1.0 - other) + other * (1.0 - one)))
        first, second = float(one.mean()), float(other.mean())
        apart = (1.0 - self.shared) * (first * (1.0 - second) + second * (1.0 - first))
        effective = self.tasks * self.runs / (1.0 + (self.runs - 1) * self.alike)
        return (together + apart) * effective


def _quantiles(rate: float, alike: float) -> Floats:
    if alike <= 0.0:
        return np.full(_KINDS, rate)
    middles = (np.arange(_KINDS) + 0.5) / _KINDS
    if alike >= 1.0:
        return (middles > 1.0 - rate).astype(np.float64)
    spread = 1.0 / alike - 1.0
    found = beta.ppf(middles, rate * spread, (1.0 - rate) * spread)
    return np.clip(np.nan_to_num(found), 0.0, 1.0)


def differences(random: np.random.Generator, pair: Pair, times: int) -> Floats:
    """Draw the mean differences of tasks, shape ``(times, tasks)``."""
    shape = (times, pair.tasks)
    one, other = pair.quantiles
    kind = random.integers(0, _KINDS, shape)
    own = random.integers(0, _KINDS, shape)
    same = random.random(shape) < pair.shared
    return _drawn(random, other[np.where(same, kind, own)], pair.runs) - _drawn(
        random, one[kind], pair.runs
    )


def _drawn(random: np.random.Generator, chance: Floats, runs: int) -> Floats:
    if runs == 1:
        return (random.random(chance.shape) < chance).astype(np.float64)
    return random.binomial(runs, chance) / runs


def coverage(random: np.random.Generator, pair: Pair, times: int) -> Coverage:
    """Evaluate ``times`` and tell how often ``mean_difference`` held the true difference."""
    held, width, left, truth = 0, 0.0, times, pair.truth
    while left:
        batch = min(left, max(1, BATCH // pair.tasks))
        low, high = intervals(differences(random, pair, batch))
        held += int(np.count_nonzero((low <= truth + 1e-12) & (truth <= high + 1e-12)))
        width += float(np.sum(high - low))
        left -= batch
    share = held / times
    return Coverage(share, (share * (1.0 - share) / times) ** 0.5, width / times)


def bootstrap_coverage(random: np.random.Generator, pair: Pair, times: int) -> Coverage:
    """Evaluate ``times`` and tell how often the percentile bootstrap held the true difference."""
    values = differences(random, pair, times)
    ends = np.array([bootstrap(row, draws=1_000, seed=n) for n, row in enumerate(values)])
    low, high = ends[:, 0], ends[:, 1]
    share = float(np.mean((low <= pair.truth + 1e-12) & (pair.truth <= high + 1e-12)))
    width = float(np.mean(high - low))
    return Coverage(share, (share * (1.0 - share) / times) ** 0.5, width)


def intervals(values: Floats) -> tuple[Floats, Floats]:
    """Return what ``mean_difference`` would for each row of ``values``, at once."""
    tasks = values.shape[1]
    quantile = float(student.ppf(0.975, tasks - 1))
    gains, losses = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    gain, loss = gains.mean(axis=1), losses.mean(axis=1)
    over = tasks * (tasks - 1)
    of_gain = np.sum((gains - gain[:, None]) ** 2, axis=1) / over
    of_loss = np.sum((losses - loss[:, None]) ** 2, axis=1) / over
    # No task both gains and loses.
    covariance = -gain * loss / (tasks - 1)
    scale = np.sqrt(of_gain * of_loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(scale > 0.0, np.clip(covariance / scale, -1.0, 1.0), 0.0)
    gain_low, gain_high = _score(gain, _effective(gain, of_gain, tasks), quantile)
    loss_low, loss_high = _score(loss, _effective(loss, of_loss, tasks), quantile)
    reach = all_or_none(tasks)
    gain_high, loss_high = np.maximum(gain_high, reach), np.maximum(loss_high, reach)
    value = gain - loss
    low = value - _joined(gain - gain_low, loss_high - loss, correlation)
    high = value + _joined(gain_high - gain, loss - loss_low, correlation)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def _effective(mean: Floats, variance: Floats, tasks: int) -> Floats:
    spread = variance > 1e-15
    return np.where(spread, mean * (1.0 - mean) / np.where(spread, variance, 1.0), tasks)


def _score(mean: Floats, size: Floats, quantile: float) -> tuple[Floats, Floats]:
    square = quantile**2 / size
    centre = (mean + square / 2.0) / (1.0 + square)
    half = np.sqrt(square * (mean * (1.0 - mean) + square / 4.0)) / (1.0 + square)
    return np.minimum(mean, np.maximum(centre - half, 0.0)), np.maximum(mean, centre + half)


def _joined(one: Floats, other: Floats, correlation: Floats) -> Floats:
    return np.sqrt(np.maximum(one**2 + other**2 - 2.0 * correlation * one * other, 0.0))
