"""Bounds of a rate by betting against it, which hold for any distribution of tasks.

A gambler who bets on values above a rate m multiplies the capital by ``1 + c * (x / m - 1)`` at the
value x. If m is the mean of the values, nobody can expect to win; capital that has grown to
``1 / level`` is evidence against m at this level. Such bounds also hold where nearly all tasks are
alike and a few always, or never, succeed: there the variance between the tasks that were drawn says
nothing of those that were not. Source: Waudby-Smith and Ramdas 2024, Journal of the Royal
Statistical Society B 86, 1-27.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log, log2

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BETS = np.float64(0.95) * np.float64(0.6) ** np.arange(10)
"""Shares of the capital that are bet, each by a tenth of it: small shares detect small differences,
large ones suit values that hardly vary."""
_HALVINGS = 32
_NEAREST = 1e-12


class ConfidenceSequence:
    """A confidence sequence for the mean of values within 0..1.

    At all times simultaneously, and so under any stopping rule, ``interval`` contains the mean with
    probability at least ``1 - alpha``, if each value has the same mean given all earlier ones. This
    is true of independent tasks, one value each, **in an order that does not depend on the
    values**: a random order fixed in advance, not the order in which runs end. It is not true of a
    second run of a task; see ``RoundSequence``.

    Proof: for each candidate mean m, a gambler who bets a share c of the capital on values above m
    multiplies it by ``1 + c * (x / m - 1)`` at the value x. If m is the mean, the capital is a
    martingale, and so is the mean of several gamblers' capital; by Ville's inequality (1939) it
    exceeds 2 / alpha at any time with probability at most alpha / 2. The interval excludes the
    rates at which it did, and those at which a bet on values below m paid as much. Capital falls
    (for the other side rises) with m, so the remaining rates are an interval.

    Adding a value takes less than a microsecond, ``side`` some 20 and ``interval`` some 600, if
    there are few distinct values (0 and 1, or means of some runs); both grow with their number.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"a confidence sequence needs an alpha between 0 and 1, not {alpha}")
        self.alpha = alpha
        self._counts: dict[float, int] = {}
        self._low, self._high = 0.0, 1.0
        self._stale = False
        self._sides: dict[float, int] = {}

    @property
    def count(self) -> int:
        """Number of values added."""
        return sum(self._counts.values())

    def add(self, values: Iterable[float]) -> None:
        """Add the next values, in order. Raises ``ValueError`` for one outside 0..1."""
        for value in values:
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"a confidence sequence needs values within 0..1, not {value}")
            # A value very close to 0 or 1 is rounded, or the capital would overflow.
            known = float(value) if _NEAREST < value < 1.0 - _NEAREST else float(round(value))
            self._counts[known] = self._counts.get(known, 0) + 1
            self._stale = True
        self._sides.clear()

    def interval(self) -> tuple[float, float]:
        """Return the intersection of all intervals so far.

        If it is empty, which has a probability of at most ``alpha``, low exceeds high.
        """
        if self._stale:
            values, counts = self._seen()
            self._low = max(self._low, _lower_limit(values, counts, self.alpha / 2.0))
            self._high = min(self._high, 1.0 - _lower_limit(1.0 - values, counts, self.alpha / 2.0))
            self._stale = False
        return self._low, self._high

    def side(self, bound: float) -> int:
        """Return 1 if the interval lies above ``bound``, -1 if below, 0 if it contains it.

        This is faster than ``interval``, whose ends are not computed. ``bound`` is within 0..1.
        """
        if bound not in self._sides:
            self._sides[bound] = self._side(bound)
        return self._sides[bound]

    def _side(self, bound: float) -> int:
        if bound < self._low or bound > self._high:
            return 1 if bound < self._low else -1
        if not self._stale:
            return 0
        # A bet that excludes a rate excludes all farther ones, so a nearer rate is conservative.
        rate = min(max(bound, _NEAREST), 1.0 - _NEAREST)
        values, counts = self._seen()
        enough = -np.log(self.alpha / 2.0)
        if _log_capital(values, counts, rate) >= enough:
            return 1
        return -1 if _log_capital(1.0 - values, counts, 1.0 - rate) >= enough else 0

    def _seen(self) -> tuple[Floats, Floats]:
        return (
            np.fromiter(self._counts, np.float64),
            np.fromiter(self._counts.values(), np.float64),
        )


class RoundSequence:
    """A confidence sequence for the mean over tasks whose runs come in rounds.

    Round r holds the r-th run of each task. A task's second run is correlated with its first, so
    the values of all rounds violate the condition of ``ConfidenceSequence``. But for each round r,
    the means of the first r runs of each task, in the order of tasks, satisfy it. So each round has
    its own sequence with a share of ``alpha``: half of it for the first, in which most gates are
    decided, and the other half in equal parts. By the union bound their intersection contains the
    mean at all times simultaneously with probability at least ``1 - alpha``. In later rounds the
    means vary less, so that intervals get narrower.

    If units are correlated in other ways, such as the couples of one benign task, a value must be
    the mean over such a cluster, and the rate is the mean over clusters.
    """

    def __init__(self, rounds: int, alpha: float = 0.05) -> None:
        if rounds < 1:
            raise ValueError(f"a sequence of rounds needs one round at least, not {rounds}")
        shares = [alpha] if rounds == 1 else [alpha / 2] + [alpha / 2 / (rounds - 1)] * (rounds - 1)
        self._sequences: Sequence[ConfidenceSequence] = [ConfidenceSequence(a) for a in shares]

    def add(self, round_index: int, means: Iterable[float]) -> None:
        """Add means of tasks over their first ``round_index + 1`` runs, in the order of tasks.

        Every task occurs once in a round, in an order fixed in advance. Raises ``IndexError`` for a
        round that was not planned.
        """
        self._sequences[round_index].add(means)

    def interval(self) -> tuple[float, float]:
        """Return the intersection of the intervals of all rounds."""
        lows, highs = zip(*(one.interval() for one in self._sequences), strict=True)
        return max(lows), min(highs)

    def side(self, bound: float) -> int:
        """Return the first nonzero ``ConfidenceSequence.side`` of the rounds, else 0."""
        return next((side for one in self._sequences if (side := one.side(bound))), 0)


def _lower_limit(values: Floats, counts: Floats, tail: float) -> float:
    """Return the largest rate that bets on values above it exclude; 0 if they exclude none."""
    mean = float(values @ counts / counts.sum())
    if mean <= 0.0:
        return 0.0
    enough = -np.log(tail)
    low, high = 0.0, mean  # At the mean no constant bet wins, because log is concave.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if _log_capital(values, counts, middle) >= enough:
            low = middle
        else:
            high = middle
    return low


def _log_capital(values: Floats, counts: Floats, rate: float) -> float:
    logs = np.log1p(_BETS[:, None] * (values / rate - 1.0)) @ counts
    largest = float(logs.max())
    return largest + float(np.log(np.mean(np.exp(logs - largest))))


LEVEL = 0.05
"""Probability at most that evidence speaks for a side on which the mean is not."""
_DRAWS = 32
_LARGEST_BET = 0.95


@dataclass(frozen=True)
class Evidence:
    """What independent values show about the weighted mean that they are drawn from.

    If there are several draws of independent values from one table, the evidence is the mean of
    their capital: an average of e-values is one, however they depend on each other (Vovk and Wang
    2021, Annals of Statistics 49, 1736-1754). Values of one draw need not have equal means: if
    these average m, the product of their gains is expected to be 1 at most, as a geometric mean is
    at most the arithmetic one.
    """

    values: Floats
    """Values within 0..1, shape ``(draws, values)``."""
    weights: Floats
    """Their weights relative to the largest, within 0..1, of the same shape."""
    least: float = 0.0
    """The least value before it was brought to 0..1: 0 of rates, -1 of differences."""

    def side(self, bound: float, level: float = LEVEL) -> int:
        """Return 1 if the mean is shown to be above ``bound``, -1 if below, 0 if neither.

        Each is wrong with a probability of at most ``level``. ``bound`` is within ``least``..1.
        """
        rate = (bound - self.least) / (1.0 - self.least)
        rate = min(max(rate, _NEAREST), 1.0 - _NEAREST)
        if self._shown(self.values, rate, level):
            return 1
        return -1 if self._shown(1.0 - self.values, 1.0 - rate, level) else 0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the bounds that ``side`` does not exclude."""
        low, high = self._limit(self.values, level), 1.0 - self._limit(1.0 - self.values, level)
        return self.least + (1.0 - self.least) * low, self.least + (1.0 - self.least) * high

    def _limit(self, values: Floats, level: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            shown = self._shown(values, max(middle, _NEAREST), level)
            low, high = (middle, high) if shown else (low, middle)
        return low

    def _shown(self, values: Floats, rate: float, level: float) -> bool:
        """Whether bets on values above ``rate`` have won enough; the lower it is, the more."""
        number = values.shape[1]
        # Larger shares than 1 over the square root of the number suit any smaller differences.
        bets = _LARGEST_BET * 0.5 ** np.arange(max(1, ceil(log2(number) / 2.0)))
        gains = bets[:, None, None] * (self.weights * (values / rate - 1.0))
        logs = np.log1p(gains).sum(axis=2)
        largest = float(logs.max())
        return largest + float(np.log(np.mean(np.exp(logs - largest)))) >= -log(level)


def evidence_of_clusters(values: Floats, clusters: Ints, *, least: float = 0.0) -> Evidence:
    """Return the evidence of ``values``, one for each unit, whose ``clusters`` are independent.

    Values are within ``least``..1.
    """
    groups = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(groups).astype(np.float64)
    means = np.bincount(groups, weights=(values - least) / (1.0 - least)) / sizes
    return Evidence(np.clip(means, 0.0, 1.0)[None, :], (sizes / sizes.max())[None, :], least)


def evidence_of_couples(
    values: Floats,
    benign: Ints,
    malicious: Ints,
    suites: Ints,
    *,
    sizes: Floats | None = None,
    least: float = 0.0,
) -> Evidence:
    """Return the evidence of ``values``, one for each couple, whose tasks are both drawn.

    Couples that share no task are independent. So each draw holds as many such couples of each
    suite as it can, in a random choice that is the same for equal tasks; the couples of a suite
    stand for all of its couples, or for as many as ``sizes`` has of it. Source: Silverman 1976,
    "Limit theorems for dissociated random variables", Advances in Applied Probability 8, 806-819.
    All arrays have the shape ``(units,)``, but for ``sizes``, which is by suite, ascending; values
    are within ``least``..1.
    """
    values = (values - least) / (1.0 - least)
    random = np.random.default_rng(0)
    means, weights = [], []
    for place, suite in enumerate(np.unique(suites)):
        part = suites == suite
        rows = np.unique(benign[part], return_inverse=True)[1]
        columns = np.unique(malicious[part], return_inverse=True)[1]
        width = columns.max() + 1
        cells, cell = np.unique(rows * width + columns, return_inverse=True)
        of_cells = np.bincount(cell, weights=values[part]) / np.bincount(cell)
        chosen = _apart(cells // width, cells % width, random)
        present = chosen >= 0
        means.append(np.where(present, of_cells[chosen], 0.0))
        size = float(part.sum() if sizes is None else sizes[place])
        weights.append(present * (size / present.sum(axis=1, keepdims=True)))
    joined = np.concatenate(weights, axis=1)
    return Evidence(
        np.clip(np.concatenate(means, axis=1), 0.0, 1.0),
        joined / joined.max(axis=1, keepdims=True),
        least,
    )


def _apart(rows: Ints, columns: Ints, random: np.random.Generator) -> Ints:
    """Return draws of cells of a table no two of which share a row or column, by their positions.

    The shape is ``(draws, cells)``; -1 fills a draw of fewer cells than others.
    """
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    if height == width == len(rows):
        return np.tile(np.arange(len(rows)), (_DRAWS, 1))
    if len(rows) == height * width:  # The cells are sorted by row and column.
        both = [
            np.argsort(random.random((_DRAWS, size)), axis=1)[:, : min(height, width)]
            for size in (height, width)
        ]
        return both[0] * width + both[1]
    chosen = np.full((_DRAWS, min(height, width)), -1)
    for draw in chosen:
        free_rows, free_columns = np.ones(height, dtype=bool), np.ones(width, dtype=bool)
        number = 0
        for cell in random.permutation(len(rows)).tolist():
            row, column = rows[cell], columns[cell]
            if free_rows[row] and free_columns[column]:
                draw[number] = cell
                free_rows[row] = free_columns[column] = False
                number += 1
    return chosen
