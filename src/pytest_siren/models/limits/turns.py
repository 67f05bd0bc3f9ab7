"""Turns at sending: requests that are made at the same time leave one after the other.

An event loop would work on all of them in rounds, so that even the first leaves when nearly all are
ready. One at a time, the first leaves at once, and the last no later.
"""

from __future__ import annotations

import asyncio
from collections import deque

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
