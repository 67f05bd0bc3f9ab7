"""The times of one run, and which of them it only waited. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta


class Stopwatch:
    """Measures by a clock that nobody sets, so that no duration is negative.

    ``clock`` returns seconds; only differences of them are used.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.started_at = datetime.now(UTC)
        self._clock = clock
        self._began = clock()
        self._waits = 0
        """Waits that have begun and not ended."""
        self._waiting_since = 0.0
        self._waited = 0.0

    def now(self) -> datetime:
        """Return the start plus what has passed since, whatever the clock on the wall shows."""
        return self.started_at + timedelta(seconds=self._clock() - self._began)

    @property
    def waited(self) -> float:
        """Seconds so far in which the run waited for a rate limit, a cooldown or a person.

        Waits that overlap count once. Those that last count up to now.
        """
        lasting = self._clock() - self._waiting_since if self._waits else 0.0
        return self._waited + lasting

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in this block as waiting."""
        if not self._waits:
            self._waiting_since = self._clock()
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                self._waited += self._clock() - self._waiting_since

    def measure_this_run(self) -> None:
        """Let ``waiting`` report to this stopwatch, in this task and in those that it starts."""
        _RUN.set(self)


_RUN: ContextVar[Stopwatch | None] = ContextVar("pytest_siren_stopwatch", default=None)


@contextmanager
def waiting() -> Iterator[None]:
    """Count the time in this block as waiting of the run that executes it, if one does."""
    stopwatch = _RUN.get()
    if stopwatch is None:
        yield
        return
    with stopwatch.waiting():
        yield
