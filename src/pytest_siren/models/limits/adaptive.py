"""The adaptive limit: additive increase, multiplicative decrease (Chiu and Jain, 1989).

Where nothing is refused any more the increase becomes faster, like the "hyper increase" of Zhu and
others, "Congestion control for large-scale RDMA deployments", SIGCOMM 2015.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_siren.models.limits.advice import Advice
from pytest_siren.models.limits.cells import Cell, Cells
from pytest_siren.models.limits.share import RefusalShare

_FACTOR = 0.7
_SHORTEST = 1.0
"""Seconds between two decreases, at least: refusals of one burst are one piece of news."""
_RAMP = 5.0
"""Seconds of success from 1 to the ceiling, at least."""
_RAMP_LATENCIES = 10.0
_ROUNDS = 10.0
"""Rounds of the ramp, each an answer's time or more."""
_CALM_ROUNDS = 2.0
"""Rounds without a refusal after which the pace doubles with each further one. In the first those
answers come that were under way at the last refusal; only the second proves anything."""
_DOUBLINGS = 2.0
_SMOOTHING = 0.1
_WINDOW = 10
"""Refusals in a row that are no chance, at least: a third of all refused at random, 1 in 60,000."""
_BEARABLE, _EXCESSIVE = 0.35, 0.5
"""Up to the first share of refusals the limit rises as ever, from the second on not at all: some
providers refuse at random, and slowing down would not help; with others half the requests must not
be in vain."""
_LONGEST_PAUSE = 30.0
_LONGEST_HINT = 60.0
"""Seconds that a successful answer can make everybody pause."""


class AdaptiveLimit:
    """How many requests may be in flight, learned from the answers; shared through ``cells``."""

    def __init__(self, cells: Cells, ceiling: int, clock: Callable[[], float]) -> None:
        self.ceiling = float(ceiling)
        self.latency = 0.0
        """Smoothed seconds from request to answer, of this process's successes."""
        self._refusals = RefusalShare()
        self._cells = cells
        self._clock = clock
        with cells.lock():
            if not cells[Cell.LIMIT]:
                cells[Cell.LIMIT] = self.ceiling
                cells[Cell.RAISED_AT] = clock()

    @property
    def value(self) -> int:
        """The limit at present, 1 at least."""
        return max(1, int(self._cells[Cell.LIMIT]))

    @property
    def _memory(self) -> float:
        return max(_SHORTEST, self.latency)

    @property
    def binding(self) -> bool:
        """Whether the limit is below the ceiling."""
        return self._cells[Cell.LIMIT] < self.ceiling

    @property
    def paused(self) -> float:
        """Seconds for which nobody may send; 0 when anybody may."""
        until = self._cells[Cell.PAUSED_UNTIL]
        return max(0.0, until - self._clock()) if until else 0.0

    def succeeded(self, latency: float, advice: Advice) -> None:
        """Take notice of an answer after ``latency`` seconds."""
        cells = self._cells
        self.latency += (latency - self.latency) * (_SMOOTHING if self.latency else 1.0)
        if not cells[Cell.SUCCEEDED] or cells[Cell.REFUSALS]:
            cells[Cell.SUCCEEDED] = 1.0
            cells[Cell.REFUSALS] = cells[Cell.PAUSES] = cells[Cell.REJECTED] = 0.0
        if cells[Cell.LIMIT] < self.ceiling:
            self._refusals.add(False, self._clock(), self._memory)
            with cells.lock():
                self._raise()
        if advice.exhausted and advice.resets_in:
            with cells.lock():
                self._pause(min(advice.resets_in, _LONGEST_HINT))

    def refused(self, advice: Advice) -> None:
        """Take notice of a refusal."""
        cells = self._cells
        with cells.lock():
            now = self._clock()
            self._refusals.add(True, now, self._memory)
            cells[Cell.CALM] = 0.0
            cells[Cell.REFUSALS] += 1
            if cells[Cell.REFUSALS] == 1:
                cells[Cell.REFUSED_AT] = now
            if now - cells[Cell.LOWERED_AT] >= max(self.latency, _SHORTEST):
                cells[Cell.LIMIT] = max(1.0, cells[Cell.LIMIT] * _FACTOR)
                cells[Cell.LOWERED_AT] = cells[Cell.RAISED_AT] = now
            if advice.exhausted and advice.wait:
                self._pause(advice.wait)
            elif self._nobody_gets_through(now):
                self._stand_still(advice)

    def _raise(self) -> None:
        cells, now = self._cells, self._clock()
        ramp = max(_RAMP, _RAMP_LATENCIES * self.latency)
        # A silence is no success: what nobody tried for a while does not count.
        elapsed = min(now - cells[Cell.RAISED_AT], max(_SHORTEST, 2 * self.latency))
        cells[Cell.RAISED_AT] = now
        cells[Cell.CALM] += min(elapsed, ramp / _ROUNDS)
        rounds = cells[Cell.CALM] * _ROUNDS / ramp
        haste = 2.0 ** min(max(rounds - _CALM_ROUNDS, 0.0), _DOUBLINGS)
        tolerance = (_EXCESSIVE - self._refusals.value) / (_EXCESSIVE - _BEARABLE)
        pace = self.ceiling / ramp * haste * min(max(tolerance, 0.0), 1.0)
        raised = cells[Cell.LIMIT] + pace * elapsed
        cells[Cell.LIMIT] = min(self.ceiling, raised)

    def _nobody_gets_through(self, now: float) -> bool:
        """Whether all of a window were refused, and none that was in flight then succeeded."""
        cells = self._cells
        if cells[Cell.REFUSALS] < max(_WINDOW, int(cells[Cell.LIMIT])):
            return False
        return now - cells[Cell.REFUSED_AT] >= max(_SHORTEST, 2 * self.latency)

    def _stand_still(self, advice: Advice) -> None:
        """Stop asking, then let one request find out."""
        if self.paused:
            return
        cells = self._cells
        wait = advice.wait
        if wait is None:
            wait = min(_LONGEST_PAUSE, 2.0 ** cells[Cell.PAUSES])
            cells[Cell.PAUSES] += 1
        cells[Cell.LIMIT] = 1.0
        self._refusals.forget()
        self._pause(wait)

    def _pause(self, seconds: float) -> None:
        until = self._clock() + seconds
        self._cells[Cell.PAUSED_UNTIL] = max(self._cells[Cell.PAUSED_UNTIL], until)
