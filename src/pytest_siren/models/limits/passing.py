"""Answers that come at the same time are looked at one after the other.

An event loop would work on all of them in rounds, so that the first request that one of them leads
to leaves when nearly all have been read. One at a time, it leaves at once, and the last no later.
"""

from __future__ import annotations

import asyncio
from collections import deque

from pytest_siren.models.limits.turns import grant

_LONGEST = 0.02
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
            self._timer = loop.call_later(_LONGEST, self._look, loop)
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
        left = self._passed + _LONGEST - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look, loop)
            return
        self._timer = None
        while grant(self._waiting):
            pass
