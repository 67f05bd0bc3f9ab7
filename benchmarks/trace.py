"""What the server's notes of single requests tell: throughput before, during and after faults."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

BACK = 0.9
"""The share of the undisturbed throughput at which it counts as back."""
WINDOW = 1.0
"""Seconds over which it must be."""
_STEP = 0.05
_SETTLED = 8.0
"""Seconds after the faults from which on the throughput counts as undisturbed again."""


@dataclass(frozen=True)
class Trace:
    """Seconds after the first request at which those came that met no fault, in order.

    Each takes ``latency`` seconds; there were faults from ``faults_from`` to ``faults_until``.
    """

    arrivals: tuple[float, ...]
    latency: float
    faults_from: float
    faults_until: float

    def rate(self, start: float, end: float) -> float:
        """Return the throughput from ``start`` to ``end``, in answers a second.

        It is the mean number of requests in flight over their time (Little, 1961). Arrivals would
        tell less: requests that began together come back together, so that a window of a second
        holds none of them, or all of them twice.
        """
        return (self._seconds_before(end) - self._seconds_before(start)) / (
            self.latency * (end - start)
        )

    @property
    def before(self) -> float:
        """The throughput in the latter half of the time before the faults."""
        return self.rate(self.faults_from / 2, self.faults_from)

    @property
    def during(self) -> float:
        """The throughput while there were faults."""
        return self.rate(self.faults_from + self.latency, self.faults_until)

    @property
    def undisturbed(self) -> float:
        """The throughput before the faults or long after them, whichever is higher."""
        settled = self.faults_until + _SETTLED
        late = self.rate(settled, self._tail) if settled + WINDOW < self._tail else 0.0
        return max(self.before, late)

    @property
    def recovery(self) -> float | None:
        """Seconds from the end of the faults to the end of the first second that is undisturbed.

        ``None`` when there is none.
        """
        enough = BACK * self.undisturbed
        steps = int((self.arrivals[-1] - self.faults_until - WINDOW) / _STEP)
        for start in (self.faults_until + step * _STEP for step in range(steps)):
            if self.rate(start, start + WINDOW) >= enough:
                return start + WINDOW - self.faults_until
        return None

    @property
    def after(self) -> float:
        """The throughput from the recovery on, 0 without one."""
        recovery = self.recovery
        if recovery is None:
            return 0.0
        start = self.faults_until + recovery
        return self.rate(start, max(self._tail, start + WINDOW))

    @property
    def _tail(self) -> float:
        """When nine tenths of the requests had come: towards the end there is less to do."""
        return self.arrivals[len(self.arrivals) * 9 // 10]

    @cached_property
    def _sums(self) -> list[float]:
        return [0.0, *accumulate(self.arrivals)]

    def _seconds_before(self, moment: float) -> float:
        """Return the seconds that all requests together have been in flight until ``moment``."""
        begun = bisect_left(self.arrivals, moment)
        ended = bisect_left(self.arrivals, moment - self.latency)
        running = (begun - ended) * moment - (self._sums[begun] - self._sums[ended])
        return ended * self.latency + running


def trace_of(
    noted: Iterable[tuple[float, int, str]], latency: float, faults: tuple[float, float]
) -> Trace:
    """Return the trace of what a server noted, with faults from and until those seconds."""
    rows = sorted(noted)
    first = rows[0][0]
    good = tuple(at - first for at, _, fault in rows if not fault)
    return Trace(good, latency, *faults)
