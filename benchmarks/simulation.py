"""Made-up evaluations whose true rate is known, and how often intervals hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pytest_siren.metrics.betting import RoundSequence
from pytest_siren.metrics.rates.intervals import (
    ClusteredMean,
    all_or_none,
    effective_size,
    mid_p,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BATCH = 2_000_000
"""Units that are drawn at a time, so that memory stays small."""


@dataclass(frozen=True)
class Cell:
    """One kind of evaluation."""

    tasks: int
    runs: int
    rate: float
    alike: float = 0.0
    """Correlation of the runs of one task: 0 for independent runs, 1 for runs all the same."""
    couples: int = 1
    """Couples of each task, which is then a cluster; ``alike`` is within it, runs are as good as
    couples."""

    @property
    def fewer(self) -> float:
        """Independent observations of the rarer outcome that are expected."""
        alike = self.couples * self.runs
        effective = self.tasks * alike / (1.0 + (alike - 1) * self.alike)
        return min(self.rate, 1.0 - self.rate) * effective

    @property
    def fewer_runs(self) -> float:
        """Runs of the rarer outcome that are expected, however alike."""
        return min(self.rate, 1.0 - self.rate) * self.tasks * self.couples * self.runs


@dataclass(frozen=True)
class Coverage:
    """How often the interval held the rate."""

    share: float
    error: float
    """Standard error of ``share``."""
    width: float
    """Mean width of the interval."""


def standard_errors(times: Mapping[int, int]) -> str:
    """Tell how exact a coverage of 95 % is, by tasks, with so many ``times`` of simulation."""
    return ", ".join(
        f"{100 * (0.95 * 0.05 / number) ** 0.5:.2f} ({tasks:,} tasks)"
        for tasks, number in times.items()
    )


def rates(random: np.random.Generator, cell: Cell, size: tuple[int, ...]) -> Floats:
    """Draw the rates of tasks: from a beta distribution with the cell's mean and alikeness."""
    if cell.alike <= 0.0:
        return np.full(size, cell.rate)
    if cell.alike >= 1.0:
        return (random.random(size) < cell.rate).astype(np.float64)
    spread = 1.0 / cell.alike - 1.0
    return random.beta(cell.rate * spread, (1.0 - cell.rate) * spread, size)


def means(random: np.random.Generator, cell: Cell, times: int) -> Floats:
    """Draw the means of units, shape ``(times, tasks * couples)``; couples of a task together."""
    drawn = np.repeat(rates(random, cell, (times, cell.tasks)), cell.couples, axis=1)
    return random.binomial(cell.runs, drawn) / cell.runs


def coverage(random: np.random.Generator, cell: Cell, times: int) -> Coverage:
    """Evaluate ``times`` and tell how often the interval held the rate."""
    held, width, left = 0, 0.0, times
    while left:
        batch = min(left, max(1, BATCH // (cell.tasks * cell.couples)))
        low, high = intervals(means(random, cell, batch), cell)
        held += int(np.count_nonzero((low <= cell.rate) & (cell.rate <= high)))
        width += float(np.sum(high - low))
        left -= batch
    share = held / times
    return Coverage(share, (share * (1.0 - share) / times) ** 0.5, width / times)


def intervals(values: Floats, cell: Cell) -> tuple[Floats, Floats]:
    """Return what ``estimate`` would for each row of ``values``, at once."""
    times, units = values.shape
    total, number = units * cell.runs, cell.tasks
    mean = values.mean(axis=1)
    sums = (values - mean[:, None]).reshape(times, number, cell.couples).sum(axis=2)
    variance = number / (number - 1) * (sums**2).sum(axis=1) / units**2
    binomial = mean * (1.0 - mean)
    found = ClusteredMean(0.5, number, number, 1.0, number - 1, 1.0)
    # One size of a variance of 1 gives the factor that all rows share.
    factor = effective_size(replace(found, n_eff_if_identical=0.0), total) / 0.25
    with np.errstate(invalid="ignore"):
        raw = binomial / np.maximum(variance, binomial / (10.0 * total))
    size = np.clip(np.where(binomial > 0.0, raw * factor, number), number - 1.0, total)
    low, high = mid_p(mean, size)
    reach = all_or_none(number)
    return (
        np.where(mean == 1.0, 1.0 - reach, np.minimum(low, 1.0 - reach)),
        np.where(mean == 0.0, reach, np.maximum(high, reach)),
    )


@dataclass(frozen=True)
class Stopped:
    """How a gate ``rate <= bound`` came out that was looked at again and again."""

    verdict: bool | None
    """Whether it held; ``None`` when it was never settled."""
    runs: int
    """Runs that were taken."""


def stopped_gate(
    random: np.random.Generator, cell: Cell, bound: float, alpha: float = 0.05, every: int = 4
) -> Stopped:
    """Take the runs of ``cell`` in rounds and stop as soon as the gate is settled."""
    task_rates = rates(random, cell, (cell.tasks,))
    hits = (random.random((cell.runs, cell.tasks)) < task_rates).astype(np.float64)
    so_far = np.cumsum(hits, axis=0) / np.arange(1, cell.runs + 1)[:, None]
    sequence = RoundSequence(cell.runs, alpha)
    for round_index, row in enumerate(so_far):
        for start in range(0, cell.tasks, every):
            sequence.add(round_index, row[start : start + every].tolist())
            if side := sequence.side(bound):
                taken = round_index * cell.tasks + min(start + every, cell.tasks)
                return Stopped(side < 0, taken)
    return Stopped(None, cell.tasks * cell.runs)
