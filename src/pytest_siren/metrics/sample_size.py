"""How often the runs of each task had each outcome, and what further runs would look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

from pytest_siren.spec.gates import Gate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OutcomeCounts:
    """Counts of the outcomes of each unit: a task or couple in one configuration."""

    outcomes: Floats
    """The different scores, or differences of scores, shape ``(outcomes,)``."""
    counts: Ints
    """Runs of each unit with each outcome, shape ``(units, outcomes)``."""
    lacking: Ints
    """Runs of each unit that ended without a score, shape ``(units,)``."""
    clusters: Ints
    """Which units resemble each other: the same number, shape ``(units,)``."""

    @classmethod
    def of(cls, scores: Floats, units: Ints, clusters: Ints) -> OutcomeCounts:
        """Count ``scores`` by unit; NaN stands for a run without a score. All shape ``(runs,)``."""
        _, first, unit = np.unique(units, return_index=True, return_inverse=True)
        known = ~np.isnan(scores)
        outcomes, which = np.unique(scores[known], return_inverse=True)
        counts = np.zeros((len(first), len(outcomes)), dtype=np.int64)
        np.add.at(counts, (unit[known], which), 1)
        lacking = np.bincount(unit[~known], minlength=len(first)).astype(np.int64)
        return cls(outcomes, counts, lacking, clusters[first])

    @property
    def scored(self) -> Ints:
        """Scored runs of each unit."""
        number: Ints = self.counts.sum(axis=1)
        return number

    @property
    def planned(self) -> Ints:
        """Runs of each unit, scored or not."""
        return self.scored + self.lacking

    @property
    def sums(self) -> Floats:
        """Sum of the scores of each unit."""
        total: Floats = self.counts @ self.outcomes
        return total

    def successes(self, score: float = 1.0) -> Ints:
        """Return how many runs of each unit have exactly ``score``."""
        number: Ints = self.counts[:, self.outcomes == score].sum(axis=1)
        return number

    def with_runs(
        self, each: int, random: np.random.Generator, *, own_rates: bool = False
    ) -> OutcomeCounts:
        """Return a draw in which every unit has at least ``each`` runs.

        A unit's own distribution is drawn from what its runs and those of all units have shown
        (Dirichlet), the more like its own the more the runs of one unit are alike; with
        ``own_rates`` it is the one that its runs have shown.
        """
        more = np.maximum(each - self.planned, 0)
        chances = self._own_rates() if own_rates else self._chances(random)
        return replace(self, counts=self.counts + random.multinomial(more, chances))

    def with_tasks(self, more: int, random: np.random.Generator) -> OutcomeCounts:
        """Return a draw with ``more`` further units: clusters drawn with replacement."""
        known = np.flatnonzero(self.scored > 0)
        groups = np.unique(self.clusters[known], return_inverse=True)[1]
        number = int(groups.max()) + 1
        if number == len(known):
            drawn = random.integers(0, number, more)
            rows, clusters = known[drawn], np.arange(more)
        else:
            members = [known[groups == group] for group in range(number)]
            drawn = random.integers(0, number, max(1, round(more * number / len(known))))
            rows = np.concatenate([members[group] for group in drawn])
            clusters = np.repeat(np.arange(len(drawn)), [len(members[group]) for group in drawn])
        return replace(
            self,
            counts=np.concatenate([self.counts, self.counts[rows]]),
            lacking=np.concatenate([self.lacking, np.zeros(len(rows), dtype=np.int64)]),
            clusters=np.concatenate([self.clusters, clusters + int(self.clusters.max()) + 1]),
        )

    def _own_rates(self) -> Floats:
        scored = self.scored[:, None]
        return np.where(scored > 0, self.counts / np.maximum(scored, 1), self._pooled())

    def _pooled(self) -> Floats:
        """Return the mean over units of the share of each outcome."""
        known = self.counts[self.scored > 0]
        shares: Floats = np.mean(known / known.sum(axis=1, keepdims=True), axis=0)
        return shares

    def _chances(self, random: np.random.Generator) -> Floats:
        pooled = self._pooled()
        weight = self._weight()
        if weight == inf:
            return np.tile(pooled, (len(self.counts), 1))
        parts = random.standard_gamma(weight * pooled + self.counts)
        total = parts.sum(axis=1, keepdims=True)
        return np.where(total > 0, parts / np.where(total > 0, total, 1.0), pooled)

    def _weight(self) -> float:
        """Return how many runs of a unit those of all others are worth: ``1 / r - 1``.

        ``r`` is the correlation of two runs of one unit, estimated by analysis of variance (Donner
        1986, International Statistical Review 54, 67-82), and not below 0.
        """
        counts = self.counts[self.scored > 0]
        sizes = counts.sum(axis=1).astype(np.float64)
        units, runs = len(sizes), float(sizes.sum())
        if units == 1:
            return inf
        if runs == units:
            return 0.0
        means = counts @ self.outcomes / sizes
        grand = float(sizes @ means) / runs
        between = float(sizes @ (means - grand) ** 2) / (units - 1)
        squares = float((counts @ self.outcomes**2).sum()) - float(sizes @ means**2)
        within = max(squares, 0.0) / (runs - units)
        typical = (runs - float(sizes @ sizes) / runs) / (units - 1)
        spread = max(between - within, 0.0) / typical
        if spread <= 0.0:
            return inf
        return within / spread


CHANCE = 0.8
"""Least share of the simulations that the proposed runs settle, if rates stay as observed."""
MOST_RUNS = 10_000_000
"""Runs beyond which none are proposed."""
MOST_TASKS = 50_000
"""Tasks beyond which none are proposed."""
_SPARE = 0.04
"""What the share must lie above ``CHANCE``: about one standard error of it."""
_DRAWS = 100
_FEW = 20
"""Draws that are enough where the share is clearly above or below."""
_SEED = 20_240_601

Interval = Callable[[OutcomeCounts, bool], tuple[float, float]]
"""Returns the interval of the measure; with ``True``, runs without a score count against it."""


@dataclass(frozen=True)
class RequiredRuns:
    """Runs or tasks that would settle a gate in four of five simulations.

    Nothing is set where no number within ``MOST_RUNS`` and ``MOST_TASKS`` would.
    """

    runs: int | None = None
    """Further runs: of the same tasks where ``each`` is set, else of further tasks."""
    each: int | None = None
    """Runs that each of the same tasks should have in all."""
    tasks: int | None = None
    """Further tasks with as many runs as the present ones have."""
    paired: bool = False
    """Whether each run needs a counterpart in the baseline too."""
    repeated: bool | None = None
    """Whether tasks have several runs, which show what more of them would do; ``None`` where
    that was not asked."""


@dataclass(frozen=True)
class GateSimulation:
    """A gate that is open, and how its interval follows from the outcomes of units."""

    gate: Gate
    counts: OutcomeCounts
    interval: Interval
    others: bool = True
    """Whether further tasks could settle it; not so for the worst of the tasks at hand."""
    own_rates: bool = False
    """Whether further runs of a unit are drawn at its own rate alone, as for the worst one."""
    paired: bool = False

    def required(self) -> RequiredRuns:
        """Return the runs that would settle the gate, or else the tasks."""
        counts = self.counts
        repeated = self._shows_repetition()
        each = self._each() if repeated else None
        tasks = self._tasks() if self._has_tasks() else None
        if each is not None:
            runs = int(np.maximum(each - counts.planned, 0).sum())
        elif tasks is not None:
            runs = max(1, round(tasks * float(counts.scored[counts.scored > 0].mean())))
        else:
            return RequiredRuns(paired=self.paired, repeated=repeated)
        return RequiredRuns(runs, each, tasks, self.paired, repeated)

    def _shows_repetition(self) -> bool:
        """Tell whether the runs show what more runs of the same tasks would do."""
        units = len(self.counts.clusters)
        return units == 1 or self.own_rates or int(self.counts.scored.sum()) > units

    def _has_tasks(self) -> bool:
        units, runs = len(self.counts.clusters), int(self.counts.scored.sum())
        return self.others and not (units == 1 and runs > 1)

    def _each(self) -> int | None:
        counts = self.counts
        had = int(counts.planned.min())

        def drawn(more: int, random: np.random.Generator) -> OutcomeCounts:
            return counts.with_runs(had + more, random, own_rates=self.own_rates)

        most = MOST_RUNS // len(counts.clusters)
        found = smallest_sufficient(lambda more: self._settles(more, drawn), most)
        return None if found is None else had + found

    def _tasks(self) -> int | None:
        return smallest_sufficient(
            lambda more: self._settles(more, self.counts.with_tasks), MOST_TASKS
        )

    def _settles(
        self, more: int, drawn: Callable[[int, np.random.Generator], OutcomeCounts]
    ) -> bool:
        """Tell whether ``more`` runs or tasks settle the gate in enough of the simulations."""
        random = np.random.default_rng(_SEED)
        settled = 0
        for draw in range(1, _DRAWS + 1):
            settled += self._settled(drawn(more, random))
            if draw == _FEW and abs(settled / draw - CHANCE) > 0.18:
                return settled / draw > CHANCE
        return settled / _DRAWS >= CHANCE + _SPARE

    def _settled(self, counts: OutcomeCounts) -> bool:
        accepted = [self.gate.accepts(end) for end in self.interval(counts, False)]
        if not any(accepted):
            return True
        if not all(accepted):
            return False
        return not counts.lacking.any() or all(
            self.gate.accepts(end) for end in self.interval(counts, True)
        )


def smallest_sufficient(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number from 1 that is ``enough``; above a hundred, to 4 % of it.

    ``None`` when not even ``most`` is. Larger numbers than one that is enough are taken to be too.
    """
    low, high = 0, 1
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(high * 2, most)
    while high - low > (1.0 if high <= 100 else 0.04 * high):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
