"""Confidence sequences: intervals that hold at all times at once, so that one may stop any time.

An interval of ``metrics/estimates.py`` is for a number of runs that was fixed beforehand; who looks
at it again and again and stops when it suits finds some interval that misses the truth far more
often than 1 time in 20. A confidence sequence misses it *ever* with at most that probability.

Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting",
Journal of the Royal Statistical Society B 86, 1-27 (arXiv:2010.09686): capital processes, section
4. The bets here are constant and mixed over a grid, the universal portfolio of Orabona and Jun
2024, "Tight concentrations and confidence sequences from the regret of universal portfolio", IEEE
Transactions on Information Theory 70, 436-455 (arXiv:2110.14099).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BETS = np.float64(0.95) * np.float64(0.6) ** np.arange(10)
"""Shares of the capital that may be bet, each with a tenth of it: small ones for small differences,
large ones for values that hardly vary."""
_HALVINGS = 32
_NEAREST = 1e-12


class ConfidenceSequence:
    """The mean of values of 0..1 that come one after the other.

    At all times at once, ``interval`` holds the mean with probability ``1 - alpha`` at least,
    whenever and for whatever reason one stops, if the mean of each value is the same whatever came
    before it. That is so for independent tasks, one value each, **in an order that does not depend
    on the values**: a random order that was fixed beforehand, not that in which runs end. It is not
    so for a second run of a task that was seen already; see ``RoundSequence``.

    Why: for each possible mean m, a gambler who bets a share c of his capital on values above m has
    ``1 + c * (x / m - 1)`` times as much after the value x. If m is the mean his capital is a
    martingale, and so is the mean of several gamblers' capital; by Ville's inequality (1939) it
    ever exceeds 2 / alpha with probability alpha / 2 at most. Rates at which it did are excluded,
    as are those at which a bet on values below m paid as much. Capital falls (and for the other
    side rises) with m, so what is left is an interval.

    Adding a value takes less than a microsecond, ``side`` some 20 and ``interval`` some 600, where
    values are few different ones (0 and 1, or means of some runs); both grow with their number.
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
        """Values that were added."""
        return sum(self._counts.values())

    def add(self, values: Iterable[float]) -> None:
        """Add the next values, in their order. Raises ``ValueError`` for one outside 0..1."""
        for value in values:
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"a confidence sequence needs values within 0..1, not {value}")
            # Next to 0 or 1 is 0 or 1: the capital of a bet on it would be out of bounds.
            known = float(value) if _NEAREST < value < 1.0 - _NEAREST else float(round(value))
            self._counts[known] = self._counts.get(known, 0) + 1
            self._stale = True
        self._sides.clear()

    def interval(self) -> tuple[float, float]:
        """Return what no interval so far has excluded.

        Should nothing be left, which happens with probability ``alpha`` at most, low exceeds high.
        """
        if self._stale:
            values, counts = self._seen()
            self._low = max(self._low, _lower_limit(values, counts, self.alpha / 2.0))
            self._high = min(self._high, 1.0 - _lower_limit(1.0 - values, counts, self.alpha / 2.0))
            self._stale = False
        return self._low, self._high

    def side(self, bound: float) -> int:
        """Return 1 if the mean lies above ``bound``, -1 if it lies below, 0 if it is undecided.

        It is what the interval says, without the work of finding its ends. ``bound`` is of 0..1.
        """
        if bound not in self._sides:
            self._sides[bound] = self._side(bound)
        return self._sides[bound]

    def _side(self, bound: float) -> int:
        if bound < self._low or bound > self._high:
            return 1 if bound < self._low else -1
        if not self._stale:
            return 0
        # What excludes a rate excludes any that is farther off: a nearer one is on the safe side.
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
    """The mean over tasks whose runs are taken in rounds: each task's first run, then the second...

    A task's second run resembles its first, so the values of all rounds are no sequence of the kind
    that ``ConfidenceSequence`` needs. But for each round r the means of the first r runs are, one
    for each task, in the order in which tasks are taken. So each round has a sequence of its own,
    with its share of ``alpha``: half of it for the first, where nearly all is decided, and the
    other half in equal parts. By the union bound their intersection holds the mean at all times at
    once with probability ``1 - alpha`` at least. Later rounds make the means less variable, which
    the bets turn into narrower intervals.

    Where other things are alike, such as the couples of one benign task, a value must be the mean
    over all of them, and the rate is the mean over these clusters.
    """

    def __init__(self, rounds: int, alpha: float = 0.05) -> None:
        if rounds < 1:
            raise ValueError(f"a sequence of rounds needs one round at least, not {rounds}")
        shares = [alpha] if rounds == 1 else [alpha / 2] + [alpha / 2 / (rounds - 1)] * (rounds - 1)
        self._sequences: Sequence[ConfidenceSequence] = [ConfidenceSequence(a) for a in shares]

    def add(self, round_index: int, means: Iterable[float]) -> None:
        """Add means of tasks over their first ``round_index + 1`` runs, in the order of tasks.

        Every task comes once in a round, in an order that was fixed beforehand. Raises
        ``IndexError`` for a round that was not planned.
        """
        self._sequences[round_index].add(means)

    def interval(self) -> tuple[float, float]:
        """Return what none of the rounds excludes."""
        lows, highs = zip(*(one.interval() for one in self._sequences), strict=True)
        return max(lows), min(highs)

    def side(self, bound: float) -> int:
        """Return what any round says of the mean, as ``ConfidenceSequence.side``."""
        return next((side for one in self._sequences if (side := one.side(bound))), 0)


def _lower_limit(values: Floats, counts: Floats, tail: float) -> float:
    """Return the largest rate that a bet on values above it has excluded; 0 where none has."""
    mean = float(values @ counts / counts.sum())
    if mean <= 0.0:
        return 0.0
    enough = -np.log(tail)
    low, high = 0.0, mean  # At the mean itself no constant bet wins, for log is concave.
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
