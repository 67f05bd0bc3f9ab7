"""The order of requests and answers that are ready together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

_LONGEST = 0.05
"""Seconds after which the next may begin, whatever holds the turn up."""


def grant(waiting: deque[asyncio.Future[None]]) -> bool:
    """Let the first that still waits go on; tell whether there was one."""
    while waiting:
        granted = waiting.popleft()
        if not granted.done():
            granted.set_result(None)
            return True
    return False


class Turns:
    """Places for requests that are being built and sent, first come, first served."""

    def __init__(self, places: int = 1) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> Turn:
        """Wait for a place."""
        if self._free:
            self._free -= 1
        else:
            granted = asyncio.get_running_loop().create_future()
            self._waiting.append(granted)
            try:
                await granted
            except asyncio.CancelledError:
                if granted.done() and not granted.cancelled():
                    self._pass_on()
                raise
        return Turn(self)

    def _pass_on(self) -> None:
        if not grant(self._waiting):
            self._free += 1


class Turn:
    """A place that is held, for a short time at most."""

    __slots__ = ("_timer", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns: Turns | None = turns
        self._timer = asyncio.get_running_loop().call_later(_LONGEST, self.release)

    def release(self) -> None:
        """Let the next begin; does nothing the second time."""
        if self._turns is not None:
            turns, self._turns = self._turns, None
            self._timer.cancel()
            turns._pass_on()


_PASSING_LONGEST = 0.02
"""Seconds after which no answer waits for what the one before may lead to."""


class Passing:
    """Lets an answer through, and the next when that has led to a request."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        """While an answer is being looked at."""
        self._passed = 0.0
        """When it was let through, on the event loop's clock."""

    async def wait(self) -> None:
        """Wait until nobody looks at another answer."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._passed = loop.time()
            self._timer = loop.call_later(_PASSING_LONGEST, self._look, loop)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn
        self._passed = loop.time()

    def next(self) -> None:
        """Let another answer through: a request leaves."""
        if self._timer is None or grant(self._waiting):
            return
        self._timer.cancel()
        self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let all through when the last one has led to nothing for too long."""
        left = self._passed + _PASSING_LONGEST - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look, loop)
            return
        self._timer = None
        while grant(self._waiting):
            pass


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as seen by the transport."""

    turn: Turn | None = None
    headers: Mapping[str, str] | None = None
    """The latest answer's, with names in lower case; ``None`` when the transport is not ours."""

    def sent(self) -> None:
        """Take notice that the request has left, or that it takes longer to leave."""
        if self.turn is not None:
            self.turn.release()
            self.turn = None


EXCHANGE: ContextVar[Exchange | None] = ContextVar("pytest_siren_exchange", default=None)
"""The exchange of the request that is being made; ``None`` where nobody listens."""
