"""The budget of one model: who may send a request now."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import uniform

from pytest_siren.models.limits.adaptive import AdaptiveLimit
from pytest_siren.models.limits.advice import NO_ADVICE, Advice
from pytest_siren.models.limits.cells import Cell, Cells
from pytest_siren.models.limits.rates import RateCap
from pytest_siren.models.limits.waits import Waits

_POLL = (0.02, 0.05)
"""Seconds between two looks at what the other processes hold."""
_COOLING = 1.0
_TICK = 0.001
_WAITING = 1e-6
"""How one that waits counts in a process's own cell, beside those in flight, which count 1."""


@dataclass(eq=False)
class _Waiter:
    tokens: float
    admitted: asyncio.Future[None]


@dataclass(frozen=True)
class Caps:
    """Optional caps of one model; ``None`` where there is none."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Budget:
    """Places for requests in flight, first come, first served within a process.

    While nothing limits, taking a place is a few comparisons and one number written.
    """

    def __init__(
        self,
        cells: Cells,
        *,
        ceiling: int,
        processes: int = 1,
        caps: Caps = Caps(),
        waits: Waits | None = None,
        unavailable: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waits = waits or Waits(None)
        self.unavailable = unavailable or (lambda: None)
        """Tells why no request can succeed any more; ``None`` while one may."""
        self.limit = AdaptiveLimit(cells, ceiling * processes, clock)
        self._cells = cells
        self._ceiling = ceiling
        self._clock = clock
        self._requests = self._cap(Cell.REQUESTS_AT, caps.requests_per_minute)
        self._tokens = self._cap(Cell.TOKENS_AT, caps.tokens_per_minute)
        self._capped = self._requests is not None or self._tokens is not None
        self._in_flight = 0
        self._cooling: deque[float] = deque()
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a request has."""
        return self._tokens is not None

    @property
    def in_flight(self) -> int:
        """How many places this process holds."""
        return self._in_flight

    async def acquire(self, tokens: float = 0.0, *, again: bool = False) -> None:
        """Take a place for a request of about ``tokens``; one that is sent ``again`` goes first."""
        if not self._waiters and self._admit(tokens) == 0.0:
            return
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        if again:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            with self.waits.until(time.time() + self.limit.paused):
                self._pump()
                await waiter.admitted
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._show()
            elif waiter.admitted.done() and not waiter.admitted.cancelled():
                self.release(-tokens)
            raise

    def release(self, more_tokens: float = 0.0) -> None:
        """Give the place back; the request had ``more_tokens`` than were announced."""
        self._in_flight -= 1
        if self._tokens is not None and more_tokens:
            with self._cells.lock():
                self._tokens.correct(more_tokens)
        if self._waiters:
            self._pump()
        else:
            self._cells.own = self._in_flight

    def cool(self, more_tokens: float = 0.0) -> None:
        """Give the place of a refused request back after as long as an answer takes, 1 s at most.

        A refusal is quick. If its place were free at once, all who wait would be sent into the same
        refusal in no time.
        """
        wait = min(self.limit.latency, _COOLING)
        self._cooling.append(self._clock() + wait)
        self._in_flight += 1
        self.release(more_tokens)
        asyncio.get_running_loop().call_later(wait, self._reclaim)

    def succeeded(self, latency: float, advice: Advice = NO_ADVICE) -> None:
        """Take notice that a request was answered after ``latency`` seconds."""
        self.limit.succeeded(latency, advice)

    def refused(self, advice: Advice = NO_ADVICE) -> None:
        """Take notice that the provider refused a request because there are too many."""
        self.limit.refused(advice)

    @property
    def proven(self) -> bool:
        """Whether a request on this model has succeeded in this session."""
        return bool(self._cells[Cell.SUCCEEDED])

    def rejected(self) -> int:
        """Count a request that was rejected without a reason; return how many without a success."""
        with self._cells.lock():
            self._cells[Cell.REJECTED] += 1
            return int(self._cells[Cell.REJECTED])

    def _cap(self, cell: Cell, per_minute: float | None) -> RateCap | None:
        return RateCap(self._cells, cell, per_minute) if per_minute is not None else None

    def _reclaim(self) -> None:
        now = self._clock()
        while self._cooling and self._cooling[0] <= now + _TICK:
            self._cooling.popleft()
            self.release()

    def _admit(self, tokens: float, *, polled: bool = False) -> float:
        """Take a place and return 0, or return the seconds until it is worth asking again."""
        cells = self._cells
        if self._in_flight >= self._ceiling:
            return math.inf
        if self._capped or cells[Cell.LIMIT] < self.limit.ceiling or cells[Cell.PAUSED_UNTIL]:
            wait = self.limit.paused or self._place(polled) or self._take(tokens)
            if wait:
                return wait
        self._in_flight += 1
        self._show()
        return 0.0

    def _place(self, polled: bool) -> float:
        """Return 0 when there is likely a place under the adaptive limit."""
        if not self.limit.binding:
            return 0.0
        limit = self.limit.value
        in_flight, waiting = _held(self._cells.sum())
        share = float(limit)
        if waiting > len(self._waiters):
            mine = self._in_flight + len(self._waiters)
            share *= mine / max(1, in_flight + waiting)
        # With less than a place for each process, the one that gave it back must not just take it.
        if in_flight < limit and self._in_flight < max(1.0, share) and (share >= 1.0 or polled):
            return 0.0
        return uniform(*_POLL)

    def _take(self, tokens: float) -> float:
        """Return 0 when nothing limits after all, and count the request; other processes wait."""
        cells = self._cells
        with cells.lock():
            now = self._clock()
            if self.limit.binding and _held(cells.sum())[0] >= self.limit.value:
                return uniform(*_POLL)
            caps = [cap for cap in (self._requests, self._tokens) if cap is not None]
            if wait := max((cap.wait(now) for cap in caps), default=0.0):
                return wait
            if self._requests is not None:
                self._requests.take(now, 1.0)
            if self._tokens is not None:
                self._tokens.take(now, tokens)
            if 0.0 < cells[Cell.PAUSED_UNTIL] <= now:
                cells[Cell.PAUSED_UNTIL] = 0.0
            cells.own = cells.own + 1.0
        return 0.0

    def _pump(self, *, polled: bool = False) -> None:
        """Let those go that may, in their order, and come back when the next may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = math.inf
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.admitted.done():
                wait = self._admit(waiter.tokens, polled=polled)
                if wait:
                    break
                waiter.admitted.set_result(None)
            self._waiters.popleft()
        self._show()
        if self._waiters and wait < math.inf:
            loop = self._waiters[0].admitted.get_loop()
            self._timer = loop.call_later(wait, partial(self._pump, polled=True))

    def _show(self) -> None:
        self._cells.own = self._in_flight + _WAITING * len(self._waiters)


def _held(total: float) -> tuple[int, int]:
    """Return how many requests are in flight and how many wait, by the sum of the own cells."""
    in_flight = math.floor(total + _WAITING / 2)
    return in_flight, round((total - in_flight) / _WAITING)
