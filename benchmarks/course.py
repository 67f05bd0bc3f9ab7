"""Throughput and requests in flight over a session, before, during and after faults."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

BACK = 0.9
"""The share of the undisturbed mean at which it counts as back."""
WINDOW = 1.0
"""Seconds over which it must be."""
_STEP = 0.05
_SETTLED = 8.0
"""Seconds after the faults from which on a session counts as undisturbed again."""


class Mean(Protocol):
    """A quantity's mean from ``start`` to ``end``, in seconds after the first request."""

    def __call__(self, start: float, end: float) -> float: ...


class Throughput:
    """Answers a second, by the times at which those requests came that met no fault.

    It is the mean number of requests in flight over the ``latency`` of each (Little, 1961).
    Arrivals alone would tell less: requests that began together come back together, so that a
    window of a second holds none of them, or all of them twice.
    """

    def __init__(self, arrivals: Iterable[float], latency: float) -> None:
        self.arrivals = sorted(arrivals)
        self.latency = latency
        self._sums = [0.0, *accumulate(self.arrivals)]

    def __call__(self, start: float, end: float) -> float:
        seconds = self._seconds_before(end) - self._seconds_before(start)
        return seconds / (self.latency * (end - start))

    @property
    def tail(self) -> float:
        """When nine tenths of the requests had come: towards the end there is less to do."""
        return self.arrivals[len(self.arrivals) * 9 // 10]

    def _seconds_before(self, moment: float) -> float:
        """Return the seconds that all requests together have been in flight until ``moment``."""
        begun = bisect_left(self.arrivals, moment)
        ended = bisect_left(self.arrivals, moment - self.latency)
        running = (begun - ended) * moment - (self._sums[begun] - self._sums[ended])
        return ended * self.latency + running


class Sampled:
    """What was looked at now and then: pairs of a moment and a value, in order."""

    def __init__(self, samples: Sequence[tuple[float, float]]) -> None:
        self._moments = [moment for moment, _ in samples]
        self._values = [value for _, value in samples]

    def __call__(self, start: float, end: float) -> float:
        first, last = (bisect_left(self._moments, moment) for moment in (start, end))
        return sum(self._values[first:last]) / max(1, last - first)


@dataclass(frozen=True)
class Course:
    """A quantity over a session that had faults, and whose work became less at ``tail``."""

    mean: Mean
    faults_from: float
    faults_until: float
    tail: float

    @property
    def before(self) -> float:
        """The mean in the latter half of the time before the faults."""
        return self.mean(self.faults_from / 2, self.faults_from)

    @property
    def during(self) -> float:
        """The mean in the latter half of the faults."""
        return self.mean((self.faults_from + self.faults_until) / 2, self.faults_until)

    @property
    def undisturbed(self) -> float:
        """The mean before the faults or long after them, whichever is higher."""
        settled = self.faults_until + _SETTLED
        return max(self.before, self.mean(settled, self.tail) if settled < self.tail else 0.0)

    @property
    def recovery(self) -> float | None:
        """Seconds from the end of the faults to the end of the first second that is undisturbed.

        ``None`` when there is none.
        """
        enough = BACK * self.undisturbed
        steps = int((self.tail - self.faults_until - WINDOW) / _STEP)
        for start in (self.faults_until + step * _STEP for step in range(steps)):
            if self.mean(start, start + WINDOW) >= enough:
                return start + WINDOW - self.faults_until
        return None

    @property
    def after(self) -> float:
        """The mean from the recovery on, 0 without one."""
        recovery = self.recovery
        if recovery is None:
            return 0.0
        start = self.faults_until + recovery
        return self.mean(start, max(self.tail, start + WINDOW))
