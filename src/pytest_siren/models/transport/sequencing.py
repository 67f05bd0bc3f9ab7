"""The order of requests and answers that are ready together.

An event loop works on all that are ready in rounds, so that even the first request leaves when
nearly all have been built, and the first answer leads to its next request when nearly all have been
read. One at a time, the first leaves at once, and the last no later.

``SequencedTransport`` is the whole of it, and it is off for requests outside ``turn``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import httpx2

_LONGEST_TURN = 0.05
"""Seconds after which the next request may be built, whatever delays the one before."""
_LONGEST_LOOK = 0.02
"""Seconds after which no answer waits for the request that the one before may lead to."""


class SequencedTransport(httpx2.AsyncBaseTransport):
    """Sends over ``transport`` one request at a time, and hands on one answer at a time.

    Any number of requests is in flight meanwhile.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport
        self._sends = SendGate()
        self._answers = ResponseGate()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until nobody else builds a request; what this task sends in the block is in order.

        The turn passes on when the request has left.
        """
        slot = await self._sends.acquire()
        token = _SLOT.set(slot)
        try:
            yield
        finally:
            _SLOT.reset(token)
            slot.release()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        slot = _SLOT.get()
        if slot is None:
            return await self._transport.handle_async_request(request)
        # What has a connection has left by then. Others need not wait while one is made.
        asyncio.get_running_loop().call_soon(self._sent, slot)
        response = await self._transport.handle_async_request(request)
        await self._answers.wait()
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _sent(self, slot: SendSlot) -> None:
        slot.release()
        self._answers.open()


class SendGate:
    """Lets one request at a time be built and sent, first come, first served."""

    def __init__(self) -> None:
        self._free = True
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> SendSlot:
        """Wait until the gate is free."""
        if self._free:
            self._free = False
        else:
            granted = asyncio.get_running_loop().create_future()
            self._waiting.append(granted)
            try:
                await granted
            except asyncio.CancelledError:
                if granted.done() and not granted.cancelled():
                    self._pass_on()
                raise
        return SendSlot(self)

    def _pass_on(self) -> None:
        self._free = not _grant(self._waiting)


class SendSlot:
    """The turn of one request, for a short time at most."""

    __slots__ = ("_gate", "_timer")

    def __init__(self, gate: SendGate) -> None:
        self._gate: SendGate | None = gate
        self._timer = asyncio.get_running_loop().call_later(_LONGEST_TURN, self.release)

    def release(self) -> None:
        """Let the next begin; does nothing the second time."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            self._timer.cancel()
            gate._pass_on()


class ResponseGate:
    """Lets one answer through, and the next when that has led to a request."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        """While an answer is being looked at."""
        self._opened = 0.0
        """When it was let through, on the event loop's clock."""

    async def wait(self) -> None:
        """Wait until nobody looks at another answer."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._opened = loop.time()
            self._timer = loop.call_later(_LONGEST_LOOK, self._look, loop)
            return
        granted = loop.create_future()
        self._waiting.append(granted)
        await granted
        self._opened = loop.time()

    def open(self) -> None:
        """Let another answer through: a request leaves."""
        if self._timer is None or _grant(self._waiting):
            return
        self._timer.cancel()
        self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let all through when the last one has led to nothing for too long."""
        left = self._opened + _LONGEST_LOOK - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look, loop)
            return
        self._timer = None
        while _grant(self._waiting):
            pass


_SLOT: ContextVar[SendSlot | None] = ContextVar("pytest_siren_send_slot", default=None)
"""The turn of the request that this task builds; ``None`` where requests have no order."""


def _grant(waiting: deque[asyncio.Future[None]]) -> bool:
    """Let the first that still waits go on; tell whether there was one."""
    while waiting:
        granted = waiting.popleft()
        if not granted.done():
            granted.set_result(None)
            return True
    return False
