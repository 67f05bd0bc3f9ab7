"""How many more runs, or tasks, would settle a gate on what has changed since a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from pytest_siren.metrics.difference import Moments, moments
from pytest_siren.metrics.matched import Matched
from pytest_siren.metrics.measures import Errors, Measure, run_scores
from pytest_siren.metrics.settling import CHANCE, MOST_RUNS, Need, smallest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_Z = float(norm.ppf(CHANCE))


@dataclass(frozen=True)
class Paired:
    """The differences of tasks, and how much pairs of runs of the same task differ in theirs."""

    values: Floats
    """Mean difference of each task's pairs."""
    runs: Ints
    """Pairs of each task."""
    clusters: Ints
    squares: float
    """Sum of the squared differences of all pairs."""

    @classmethod
    def of(
        cls, matched: Matched, before: pd.DataFrame, after: pd.DataFrame, measure: Measure
    ) -> Paired:
        """Return those of ``matched``, for the runs of either side, row by row."""
        one, other = (run_scores(side, measure, Errors.EXCLUDE) for side in (before, after))
        squares = float(np.nansum((other - one) ** 2))
        return cls(matched.after - matched.before, matched.runs, matched.clusters, squares)

    @property
    def within(self) -> float | None:
        """Variance of the differences of one task's pairs; ``None`` with a pair of each only."""
        freedom = int(self.runs.sum()) - len(self.runs)
        if freedom < 1:
            return None
        rest = self.squares - float(np.sum(self.runs * self.values**2))
        return max(0.0, rest) / freedom


def change_need(pairs: Paired, bound: float, confidence: float = 0.95) -> Need:
    """Return what would bring the interval of the mean difference clear of ``bound``.

    More runs of the same tasks make each task's own difference more precise, and so take away the
    part of the variance of the mean that lies within tasks: ``within / runs``. What lies between
    tasks stays, and only further tasks reduce it. So runs are told where they suffice, else tasks.
    With one pair of each task the two parts cannot be told apart, and tasks are told.

    The interval of more runs is taken to shrink as the standard error does; that of more tasks is
    computed from the present moments, for so many clusters more. On top comes the distance by which
    the estimate falls short of what it is now in one case of five (``CHANCE``).
    """
    found = moments(pairs.values, pairs.clusters)
    distance = abs(found.value - bound)
    repeated = pairs.within is not None
    if distance == 0.0 or found.clusters < 2:
        return Need(paired=True, repeated=repeated)
    low, high = found.interval(confidence)
    half = found.value - low if bound < found.value else high - found.value
    each = _each(pairs, found, half, distance)
    tasks = _tasks(pairs, found, bound, confidence)
    if each is not None:
        runs = int(np.sum(np.maximum(each - pairs.runs, 0)))
    elif tasks is not None:
        runs = ceil(tasks * float(pairs.runs.mean()))
    else:
        return Need(paired=True, repeated=repeated)
    return Need(runs=runs, each=each, tasks=tasks, paired=True, repeated=repeated)


def _each(pairs: Paired, found: Moments, half: float, distance: float) -> int | None:
    """Return how many runs of each of the same tasks would do; ``None`` where no number does."""
    within = pairs.within
    if not within or not found.variance > 0.0:
        return None
    units = len(pairs.runs)
    noise = within * float(np.mean(1.0 / pairs.runs)) / units
    between = max(0.0, found.variance - noise)

    def settled(each: float) -> bool:
        total = np.maximum(pairs.runs, each)
        kept = between + within * float(np.mean(1.0 / total)) / units
        added = within * float(np.mean((total - pairs.runs) / total**2)) / units
        return half * sqrt(kept / (between + noise)) + _Z * sqrt(added) < distance

    enough = smallest(settled, float(pairs.runs.min()), MOST_RUNS / units)
    return None if enough is None else ceil(enough)


def _tasks(pairs: Paired, found: Moments, bound: float, confidence: float) -> int | None:
    """Return how many further tasks would do; ``None`` where no number does."""
    units, error = len(pairs.runs), sqrt(found.variance)
    distance = abs(found.value - bound)

    def settled(tasks: float) -> bool:
        factor = tasks / units
        low, high = found.times(factor).interval(confidence)
        half = found.value - low if bound < found.value else high - found.value
        return half + _Z * error * sqrt(factor - 1.0) / factor < distance

    enough = smallest(settled, float(units), MOST_RUNS / float(pairs.runs.mean()))
    return None if enough is None else max(1, ceil(enough) - units)
