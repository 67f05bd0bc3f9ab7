"""Who may send a request now."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from random import uniform

from pytest_siren.evaluation.isolation import waiting
from pytest_siren.models.ratelimit.caps import Portion, RateCap
from pytest_siren.models.ratelimit.error_class import NO_ADVICE, Advice
from pytest_siren.models.ratelimit.shared_cells import Cell, LocalCells, SharedCells
from pytest_siren.sharing.state import Gauge, SharedState


class Waits:
    """The waits of one process, and what it counts."""

    def __init__(self, board: SharedState | None) -> None:
        self._board = board
        self._until: dict[object, float] = {}

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """Count one more that waits until ``moment``, in seconds since the epoch."""
        with waiting(), self._shown(moment):
            yield

    @contextmanager
    def _shown(self, moment: float) -> Iterator[None]:
        if self._board is None:
            yield
            return
        mark = object()
        self._until[mark] = moment
        self._show(self._board)
        try:
            yield
        finally:
            del self._until[mark]
            self._show(self._board)

    def count(self, gauge: Gauge) -> None:
        """Count one more of what ``gauge`` counts."""
        if self._board is not None:
            self._board[gauge] += 1

    def _show(self, board: SharedState) -> None:
        board[Gauge.HELD] = len(self._until)
        board[Gauge.RESUMES_AT] = min(self._until.values(), default=0.0)


class RefusalShare:
    """A mean over answers that forgets: those ``memory`` seconds old count a third of new ones."""

    def __init__(self) -> None:
        self._all = 0.0
        self._refused = 0.0
        self._at = 0.0

    @property
    def value(self) -> float:
        """From 0 to 1; 0 without answers."""
        return self._refused / self._all if self._all else 0.0

    def add(self, refused: bool, now: float, memory: float) -> None:
        """Add an answer at ``now``."""
        kept = math.exp(-max(0.0, now - self._at) / memory)
        self._all = self._all * kept + 1.0
        self._refused = self._refused * kept + refused
        self._at = now

    def forget(self) -> None:
        """Begin anew."""
        self._all = self._refused = 0.0


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
_AFTER_SUCCESS: dict[int, float] = {
    Cell.SUCCEEDED: 1.0,
    Cell.REFUSALS: 0.0,
    Cell.PAUSES: 0.0,
    Cell.REJECTED: 0.0,
}
_LONGEST_PAUSE = 30.0
_LONGEST_HINT = 60.0
"""Seconds that a successful answer can make everybody pause."""


class AdaptiveLimit:
    """How many requests may be in flight, learned from the answers; shared through ``cells``."""

    def __init__(self, cells: SharedCells, ceiling: int, clock: Callable[[], float]) -> None:
        self.ceiling = float(ceiling)
        self.latency = 0.0
        """Smoothed seconds from request to answer, of this process's successes."""
        self._refusals = RefusalShare()
        self._cells = cells
        self._clock = clock
        self._raised_at = self._refused_at = -math.inf
        """When this process last told others of successes, and of refusals."""
        self._untold = 0
        """Refusals since then."""
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
        """Learn from an answer after ``latency`` seconds."""
        cells = self._cells
        self.latency += (latency - self.latency) * (_SMOOTHING if self.latency else 1.0)
        if not cells[Cell.SUCCEEDED] or cells[Cell.REFUSALS]:
            self._untold = 0
            cells.assign(_AFTER_SUCCESS)
        if cells[Cell.LIMIT] < self.ceiling:
            now = self._clock()
            self._refusals.add(False, now, self._memory)
            # What comes between is not lost: it is time that counts.
            if now - self._raised_at >= cells.portion:
                self._raised_at = now
                with cells.lock():
                    self._raise()
        if advice.exhausted and advice.resets_in:
            with cells.lock():
                self._pause(min(advice.resets_in, _LONGEST_HINT))

    def refused(self, advice: Advice) -> None:
        """Learn from a refusal."""
        cells = self._cells
        now = self._clock()
        self._refusals.add(True, now, self._memory)
        self._untold += 1
        if not self._is_news(now, advice):
            return
        self._refused_at = now
        with cells.lock():
            now = self._clock()
            cells[Cell.CALM] = 0.0
            if not cells[Cell.REFUSALS]:
                cells[Cell.REFUSED_AT] = now
            cells[Cell.REFUSALS] += self._untold
            self._untold = 0
            if now - cells[Cell.LOWERED_AT] >= max(self.latency, _SHORTEST):
                cells[Cell.LIMIT] = max(1.0, cells[Cell.LIMIT] * _FACTOR)
                cells[Cell.LOWERED_AT] = cells[Cell.RAISED_AT] = now
            if advice.exhausted and advice.wait:
                self._pause(advice.wait)
            elif self._nobody_gets_through(now):
                self._stand_still(advice)

    def _is_news(self, now: float, advice: Advice) -> bool:
        """Whether a refusal has to be told before the next one comes."""
        if advice.exhausted and advice.wait:
            return True
        return now - self._refused_at >= min(self._cells.portion, _SHORTEST)

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


_POLL = (0.02, 0.05)
"""Seconds between two looks at what the other processes hold."""
_LONGEST_COOLDOWN = 1.0
_PLACES = 2
"""Places for each process from which on processes keep to shares of the adaptive limit."""


@dataclass(eq=False)
class _Waiter:
    tokens: float
    admitted: asyncio.Future[None]


@dataclass(frozen=True)
class Caps:
    """Optional caps of one model; ``None`` where there is none."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class RateLimiter:
    """Places for requests in flight, first come, first served within a process.

    While nothing limits, taking a place is a few comparisons and one number written.
    """

    def __init__(
        self,
        cells: SharedCells,
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
        """Returns why no request can succeed any more; ``None`` while one may."""
        self.limit = AdaptiveLimit(cells, ceiling * processes, clock)
        self._cells = cells
        self._ceiling = ceiling
        self._clock = clock
        self._processes = processes
        self._requests = self._portion(Cell.REQUESTS_AT, caps.requests_per_minute)
        self._tokens = self._portion(Cell.TOKENS_AT, caps.tokens_per_minute)
        self._capped = self._requests is not None or self._tokens is not None
        self._in_flight = 0
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
        if not self._waiters and self._try_acquire(tokens) == 0.0:
            return
        waiter = _Waiter(tokens, asyncio.get_running_loop().create_future())
        if again:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            with self.waits.until(time.time() + self.limit.paused):
                self._admit_waiters()
                await waiter.admitted
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._publish()
            elif waiter.admitted.done() and not waiter.admitted.cancelled():
                self.release(-tokens)
            raise

    def release(self, unexpected_tokens: float = 0.0) -> None:
        """Give the place back; the request had so many tokens more than were expected."""
        self._in_flight -= 1
        self._correct(unexpected_tokens)
        if self._waiters:
            self._admit_waiters()
        else:
            self._cells.in_flight = self._in_flight

    def release_after_cooldown(self, unexpected_tokens: float = 0.0) -> None:
        """Give the place of a refused request back after as long as an answer takes, 1 s at most.

        A refusal is quick. If its place were free at once, all who wait would be sent into the same
        refusal in no time.
        """
        self._correct(unexpected_tokens)
        wait = min(self.limit.latency, _LONGEST_COOLDOWN)
        asyncio.get_running_loop().call_later(wait, self.release)

    def succeeded(self, latency: float, advice: Advice = NO_ADVICE) -> None:
        """Learn that a request was answered after ``latency`` seconds."""
        self.limit.succeeded(latency, advice)

    def refused(self, advice: Advice = NO_ADVICE) -> None:
        """Learn that the provider refused a request because there are too many."""
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

    def _correct(self, unexpected_tokens: float) -> None:
        if self._tokens is None or not unexpected_tokens:
            return
        if self._tokens.correct(unexpected_tokens):
            with self._cells.lock():
                self._tokens.settle()

    def _portion(self, cell: Cell, per_minute: float | None) -> Portion | None:
        if per_minute is None:
            return None
        return Portion(self._cells, RateCap(self._cells, cell, per_minute), self._processes)

    def _try_acquire(self, tokens: float, *, polled: bool = False) -> float:
        """Take a place and return 0, or return the seconds until it is worth asking again."""
        cells = self._cells
        if self._in_flight >= self._ceiling:
            return math.inf
        if self._capped or cells[Cell.LIMIT] < self.limit.ceiling or cells[Cell.PAUSED_UNTIL]:
            wait = self.limit.paused or self._may_take_place(polled) or self._count_request(tokens)
            if wait:
                return wait
        self._in_flight += 1
        self._publish()
        return 0.0

    def _may_take_place(self, polled: bool) -> float:
        """Return 0 when there is likely a place under the adaptive limit."""
        if not self.limit.binding:
            return 0.0
        limit = self.limit.value
        in_flight, waiting = self._cells.total_in_flight(), self._cells.total_waiting()
        share = float(limit)
        if waiting > len(self._waiters) or not self._counts_exactly:
            mine = self._in_flight + len(self._waiters)
            share *= mine / max(1, in_flight + waiting)
        # With less than a place for each process, the one that gave it back must not just take it.
        if in_flight < limit and self._in_flight < max(1.0, share) and (share >= 1.0 or polled):
            return 0.0
        return uniform(*_POLL)

    @property
    def _counts_exactly(self) -> bool:
        """Whether each place under the adaptive limit is taken under the lock.

        Where that costs much and there are places for all, each process keeps to its share.
        """
        return not self._cells.portion or self.limit.value < _PLACES * self._processes

    def _count_request(self, tokens: float) -> float:
        """Return 0 when nothing limits after all, and count the request; other processes wait."""
        wants = [
            (portion, units)
            for portion, units in ((self._requests, 1.0), (self._tokens, tokens))
            if portion is not None
        ]
        if self._must_lock(wants):
            with self._cells.lock():
                if wait := self._take_places(wants):
                    return wait
        now = self._clock()
        if wait := max((portion.wait(now, units) or 0.0 for portion, units in wants), default=0.0):
            return wait
        for portion, units in wants:
            portion.spend(units)
        return 0.0

    def _must_lock(self, wants: Sequence[tuple[Portion, float]]) -> bool:
        now = self._clock()
        if any(portion.wait(now, units) is None for portion, units in wants):
            return True
        binding = self.limit.binding and self._counts_exactly
        return binding or 0.0 < self._cells[Cell.PAUSED_UNTIL] <= now

    def _take_places(self, wants: Sequence[tuple[Portion, float]]) -> float:
        """Take what is wanted, now or for later; return the seconds until it may be sent."""
        cells = self._cells
        now = self._clock()
        if (
            self.limit.binding
            and self._counts_exactly
            and cells.total_in_flight() >= self.limit.value
        ):
            return uniform(*_POLL)
        if 0.0 < cells[Cell.PAUSED_UNTIL] <= now:
            cells[Cell.PAUSED_UNTIL] = 0.0
        for portion, units in wants:
            if portion.wait(now, units) is None:
                portion.take(now, units, units + self._waiting_units(portion))
        wait = max((portion.wait(now, units) or 0.0 for portion, units in wants), default=0.0)
        if not wait:
            cells.in_flight = self._in_flight + 1
        return wait

    def _waiting_units(self, portion: Portion) -> float:
        """Return what those that wait behind the first one need of a cap."""
        behind = islice(self._waiters, 1, None)
        return sum(waiter.tokens if portion is self._tokens else 1.0 for waiter in behind)

    def _admit_waiters(self, *, polled: bool = False) -> None:
        """Admit the waiters that may go, in their order, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = math.inf
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.admitted.done():
                wait = self._try_acquire(waiter.tokens, polled=polled)
                if wait:
                    break
                waiter.admitted.set_result(None)
            self._waiters.popleft()
        self._publish()
        if self._waiters and wait < math.inf:
            loop = self._waiters[0].admitted.get_loop()
            self._timer = loop.call_later(wait, partial(self._admit_waiters, polled=True))

    def _publish(self) -> None:
        self._cells.in_flight = self._in_flight
        self._cells.waiting = len(self._waiters)


class RateLimiters:
    """Gives every model its rate limiter.

    ``ceiling`` is the most requests that one process has in flight, ``rpm`` and ``tpm`` are the
    most requests and tokens a minute of all ``processes`` together, per model.
    """

    def __init__(
        self,
        board: SharedState | None,
        ceiling: int,
        processes: int = 1,
        rpm: float | None = None,
        tpm: float | None = None,
    ) -> None:
        self._board = board
        self._ceiling = ceiling
        self._processes = max(1, processes)
        self._caps = Caps(rpm, tpm)
        self._waits = Waits(board)
        self._limiters: dict[str, RateLimiter] = {}

    def limiter(self, key: str) -> RateLimiter:
        """Return the rate limiter of ``key``, a provider and its model such as ``openai:gpt-5``."""
        if key not in self._limiters:
            board = self._board
            self._limiters[key] = RateLimiter(
                LocalCells() if board is None else board.key(key),
                ceiling=self._ceiling,
                processes=self._processes,
                caps=self._caps,
                waits=self._waits,
                unavailable=None if board is None else partial(board.key_stopped, key),
                clock=time.monotonic if board is None else board.clock,
            )
        return self._limiters[key]
