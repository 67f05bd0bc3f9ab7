"""How often the runs of each task had each outcome, and what further runs would look like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

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
