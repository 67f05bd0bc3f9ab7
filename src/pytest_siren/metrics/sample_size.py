"""Simulates further runs and tasks to find how many would decide a gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

from pytest_siren.metrics.rates.intervals import Clusters
from pytest_siren.spec.gates import Gate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OutcomeCounts:
    """Counts of the outcomes of each unit: a task or couple in one configuration."""

    outcomes: Floats
    """The distinct scores, or differences of scores, shape ``(outcomes,)``."""
    counts: Ints
    """Runs of each unit with each outcome, shape ``(units, outcomes)``."""
    lacking: Ints
    """Runs of each unit that ended without a score, shape ``(units,)``."""
    tasks: Clusters
    """The tasks of each unit, by which units may be correlated."""

    @classmethod
    def of(cls, scores: Floats, units: Ints, tasks: Clusters) -> OutcomeCounts:
        """Count ``scores`` by unit; NaN marks a run without a score. All shapes are ``(runs,)``."""
        _, first, unit = np.unique(units, return_index=True, return_inverse=True)
        known = ~np.isnan(scores)
        outcomes, which = np.unique(scores[known], return_inverse=True)
        counts = np.zeros((len(first), len(outcomes)), dtype=np.int64)
        np.add.at(counts, (unit[known], which), 1)
        lacking = np.bincount(unit[~known], minlength=len(first)).astype(np.int64)
        return cls(outcomes, counts, lacking, tasks.take(first))

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
        """Return the number of runs of each unit with exactly ``score``."""
        number: Ints = self.counts[:, self.outcomes == score].sum(axis=1)
        return number

    def with_runs(
        self, each: int, random: np.random.Generator, *, own_rates: bool = False
    ) -> OutcomeCounts:
        """Return a simulation in which every unit has at least ``each`` runs.

        The outcome probabilities of a unit are drawn from a Dirichlet distribution: a mix of the
        unit's own counts and those of all units, in which the unit's own weigh more the stronger
        the runs of a unit are correlated. With ``own_rates`` they are the observed shares.
        """
        more = np.maximum(each - self.planned, 0)
        chances = self._own_rates() if own_rates else self._chances(random)
        return replace(self, counts=self.counts + random.multinomial(more, chances))

    def with_tasks(self, more: int, random: np.random.Generator) -> OutcomeCounts:
        """Return a simulation with about ``more`` further units, by resampling clusters.

        Of crossed tasks both kinds are resampled, and further tasks are crossed with all: Owen
        2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 386-411.
        """
        known = np.flatnonzero(self.scored > 0)
        tasks = self.tasks.take(known)
        places, further = (_crossed_more if tasks.shared else _more)(tasks, more, random)
        rows = known[places]
        return replace(
            self,
            counts=np.concatenate([self.counts, self.counts[rows]]),
            lacking=np.concatenate([self.lacking, np.zeros(len(rows), dtype=np.int64)]),
            tasks=self.tasks.joined(further),
        )

    def _own_rates(self) -> Floats:
        scored = self.scored[:, None]
        return np.where(scored > 0, self.counts / np.maximum(scored, 1), self._pooled())

    def _pooled(self) -> Floats:
        """Return the share of each outcome, averaged over units."""
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
        """Return the weight of the pooled shares, in runs of one unit: ``1 / r - 1``.

        ``r`` is the correlation of two runs of one unit, estimated by analysis of variance (Donner
        1986, International Statistical Review 54, 67-82), and at least 0.
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


def _more(tasks: Clusters, more: int, random: np.random.Generator) -> tuple[Ints, Clusters]:
    """Return the positions of about ``more`` resampled units, and their tasks."""
    groups = np.unique(tasks.codes, return_inverse=True)[1]
    number = int(groups.max()) + 1
    if number == len(groups):
        places = random.integers(0, number, more)
        copies = np.arange(more)
    else:
        members = [np.flatnonzero(groups == group) for group in range(number)]
        drawn = random.integers(0, number, max(1, round(more * number / len(groups))))
        places = np.concatenate([members[group] for group in drawn])
        copies = np.repeat(np.arange(len(drawn)), [len(members[group]) for group in drawn])
    return places, tasks.take(places).copied(copies)


def _crossed_more(tasks: Clusters, more: int, random: np.random.Generator) -> tuple[Ints, Clusters]:
    """Return the same as ``_more``, with further tasks of both kinds."""
    growth = sqrt(1.0 + more / len(tasks.couples)) - 1.0
    kinds = [np.unique(codes, return_inverse=True)[1] for codes in (tasks.benign, tasks.malicious)]
    numbers = [int(codes.max()) + 1 for codes in kinds]
    fewer = numbers.index(min(numbers))
    copies = []
    for kind, number in enumerate(numbers):
        drawn = random.integers(0, number, max(round(number * growth), int(kind == fewer)))
        copies.append(np.bincount(drawn, minlength=number)[kinds[kind]])
    each = (1 + copies[0]) * (1 + copies[1])
    places = np.repeat(np.arange(len(each)), each)
    ordinal = np.arange(len(places)) - np.repeat(np.cumsum(each) - each, each)
    benign, malicious = np.divmod(ordinal, 1 + copies[1][places])
    new = ordinal > 0  # The first copy is the unit itself.
    places, benign, malicious = places[new], benign[new], malicious[new]
    return places, tasks.take(places).crossed_copies(benign, malicious)


CHANCE = 0.8
"""Share of the simulations that the proposed runs must decide, if rates stay as observed."""
MOST_RUNS = 10_000_000
"""Largest number of runs to propose."""
MOST_TASKS = 50_000
"""Largest number of tasks to propose."""
MOST_CROSSED = 5_000
"""Largest number of couples of crossed tasks to propose, whose interval takes longer."""
_SPARE = 0.04
"""Margin above ``CHANCE``: about one standard error of the share."""
_DRAWS = 100
_FEW = 20
"""Simulations that are enough if the share is clearly above or below."""
_SEED = 20_240_601

Judge = Callable[[OutcomeCounts, float | None], bool | None]
"""Returns whether the gate holds, or ``None`` if that is open, when runs without a score have the
one that is given; with ``None`` they are left out."""


@dataclass(frozen=True)
class RequiredRuns:
    """Runs or tasks that would decide a gate in four of five simulations.

    ``runs``, ``each`` and ``tasks`` are ``None`` if no number within ``MOST_RUNS`` and
    ``most_tasks`` would.
    """

    runs: int | None = None
    """Further runs: of the same tasks if ``each`` is set, else of further tasks."""
    each: int | None = None
    """Total number of runs that each of the same tasks should have."""
    tasks: int | None = None
    """Further tasks with as many runs as the present ones."""
    paired: bool = False
    """Whether each run needs a counterpart in the baseline."""
    repeated: bool | None = None
    """Whether tasks have several runs, from which more can be simulated; ``None`` if that was not
    examined."""
    most_tasks: int = MOST_TASKS
    """How many further tasks were examined."""


@dataclass(frozen=True)
class GateSimulation:
    """An inconclusive gate, and the function from outcomes of units to its verdict."""

    gate: Gate
    counts: OutcomeCounts
    judge: Judge
    others: bool = True
    """Whether further tasks can decide it; they cannot for the worst of the present tasks."""
    own_rates: bool = False
    """Whether further runs of a unit are simulated at its own rate, as for the worst task."""
    paired: bool = False

    def required(self) -> RequiredRuns:
        """Return the runs that would decide the gate, or else the tasks."""
        counts = self.counts
        repeated = self._shows_repetition()
        each = self._each() if repeated else None
        tasks = self._tasks() if self._has_tasks() else None
        if each is not None:
            runs = int(np.maximum(each - counts.planned, 0).sum())
        elif tasks is not None:
            runs = max(1, round(tasks * float(counts.scored[counts.scored > 0].mean())))
        else:
            return RequiredRuns(paired=self.paired, repeated=repeated, most_tasks=self._most_tasks)
        return RequiredRuns(runs, each, tasks, self.paired, repeated)

    def _shows_repetition(self) -> bool:
        """Return whether more runs of the same tasks can be simulated from the present ones."""
        units = len(self.counts.counts)
        return units == 1 or self.own_rates or int(self.counts.scored.sum()) > units

    def _has_tasks(self) -> bool:
        units, runs = len(self.counts.counts), int(self.counts.scored.sum())
        return self.others and not (units == 1 and runs > 1)

    def _each(self) -> int | None:
        counts = self.counts
        had = int(counts.planned.min())

        def drawn(more: int, random: np.random.Generator) -> OutcomeCounts:
            return counts.with_runs(had + more, random, own_rates=self.own_rates)

        most = MOST_RUNS // len(counts.counts)
        found = smallest_sufficient(lambda more: self._decides(more, drawn), most)
        return None if found is None else had + found

    def _tasks(self) -> int | None:
        return smallest_sufficient(
            lambda more: self._decides(more, self.counts.with_tasks), self._most_tasks
        )

    @property
    def _most_tasks(self) -> int:
        return MOST_CROSSED if self.counts.tasks.shared else MOST_TASKS

    def _decides(
        self, more: int, drawn: Callable[[int, np.random.Generator], OutcomeCounts]
    ) -> bool:
        """Return whether ``more`` runs or tasks decide the gate in enough of the simulations."""
        random = np.random.default_rng(_SEED)
        decided = 0
        for draw in range(1, _DRAWS + 1):
            decided += self._is_decided(drawn(more, random))
            if draw == _FEW and abs(decided / draw - CHANCE) > 0.18:
                return decided / draw > CHANCE
        return decided / _DRAWS >= CHANCE + _SPARE

    def _is_decided(self, counts: OutcomeCounts) -> bool:
        holds = self.judge(counts, None)
        if holds is None or not counts.lacking.any():
            return holds is not None
        contrary = self.gate.bad_score if holds else 1.0 - self.gate.bad_score
        return self.judge(counts, contrary) is holds


def smallest_sufficient(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number from 1 that is ``enough``, to within 4 % above a hundred.

    ``enough`` must be monotone. ``None`` if ``most`` is not enough.
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
