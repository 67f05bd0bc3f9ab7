"""How many more runs, or tasks, would settle a gate that the runs at hand leave open.

The answer is found by simulation: further runs are drawn from what was observed, the gate's own
interval is computed for each draw, and the smallest number is searched with which it settles the
gate often enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pytest_siren.metrics.outcome_counts import OutcomeCounts
from pytest_siren.spec.gates import Gate

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
class Need:
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
class Question:
    """A gate that is open, and how its interval follows from the outcomes of units."""

    gate: Gate
    counts: OutcomeCounts
    interval: Interval
    others: bool = True
    """Whether further tasks could settle it; not so for the worst of the tasks at hand."""
    own_rates: bool = False
    """Whether further runs of a unit are drawn at its own rate alone, as for the worst one."""
    paired: bool = False

    def required(self) -> Need:
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
            return Need(paired=self.paired, repeated=repeated)
        return Need(runs, each, tasks, self.paired, repeated)

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
        found = _smallest(lambda more: self._settles(more, drawn), most)
        return None if found is None else had + found

    def _tasks(self) -> int | None:
        return _smallest(lambda more: self._settles(more, self.counts.with_tasks), MOST_TASKS)

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


def _smallest(enough: Callable[[int], bool], most: int) -> int | None:
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
