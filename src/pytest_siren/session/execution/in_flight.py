"""Runs in flight on this process's event loop."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine

from pytest_siren.evaluation.isolation import STOP, GuardedTask
from pytest_siren.jobs.records.schema import Result
from pytest_siren.session.execution.event_loop import Lull
from pytest_siren.session.execution.executor import Ended
from pytest_siren.session.items.run_item import RunItem
from pytest_siren.sharing.board import Board, Gauge

_LONGEST = 0.1
"""Seconds for which runs that have ended wait for a lull: to report one takes long, and no answer
that is there should wait for it."""


class Window:
    """Keeps runs in flight and hands them back in the order in which they end.

    Between calls of ``step`` nothing of them goes on, so whoever calls it may run other event loops
    meanwhile.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        run: Callable[[RunItem, Callable[[Result], None]], Coroutine[None, None, Ended]],
        size: int,
        board: Board,
        lull: Lull,
    ) -> None:
        """``lull`` is the selector of ``loop``."""
        self._loop = loop
        self._lull = lull
        self._run = run
        self._size = size
        self._board = board
        self._abandoned = False
        self._stopping = False
        self._per_job: Counter[int] = Counter()
        self._running: dict[asyncio.Task[Ended], _Place] = {}
        self._executing = 0
        self.refill: Callable[[RunItem, Result], None] = lambda item, result: None
        """Called when there is room again, in the midst of the event loop, with what made it."""
        self._ended: deque[tuple[RunItem, Ended]] = deque()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether no run may start now. Those that only wait for the disk take no room."""
        return self._executing >= self._size

    @property
    def behind(self) -> bool:
        """Whether as many runs have ended, and wait to be handed back, as may be in flight."""
        return len(self._ended) >= self._size

    def room(self, item: RunItem) -> bool:
        """Whether ``item`` may start now."""
        return not self.full and self._per_job[id(item.job)] < item.job.spec.concurrency

    def start(self, item: RunItem) -> None:
        """Put ``item`` in flight."""
        place = _Place(self, item)
        task = GuardedTask(self._run(item, place.leave_and_refill), loop=self._loop)
        self._running[task] = place
        self._change(item, 1)
        task.add_done_callback(self._end)

    def _change(self, item: RunItem, by: int) -> None:
        self._executing += by
        self._per_job[id(item.job)] += by
        self._board[Gauge.RUNNING] = self._executing

    def step(self, seconds: float) -> None:
        """Let the runs go on until one has ended, ``wake`` is called or ``seconds`` have passed.

        One that has ended, or 0 ``seconds``, end it in the next lull, or soon if there is none, and
        at once when as many have ended as may be in flight.
        """
        stop = self._loop.stop
        if self.behind:
            stopping = self._loop.call_soon(stop)
        elif self._ended or seconds <= 0:
            self._lull.ask(stop)
            stopping = self._loop.call_later(_LONGEST, stop)
        else:
            stopping = self._loop.call_later(seconds, stop)
        try:
            self._loop.run_forever()
        finally:
            # Or they would end the loop in the midst of whatever it is used for next.
            stopping.cancel()
            self._lull.forget(stop)

    def wake(self) -> None:
        """End ``step``. May be called from any thread and from signal handlers."""
        if not self._abandoned:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def take(self) -> tuple[RunItem, Ended] | None:
        """Return the run that ended first; ``None`` when there is none to hand back."""
        return self._ended.popleft() if self._ended else None

    def running(self) -> RunItem | None:
        """Return any run in flight."""
        place = next(iter(self._running.values()), None)
        return place.item if place else None

    def cancel(self) -> None:
        """Stop what is being executed. It has ended some steps later.

        What has come to its end is recorded all the same.
        """
        self._stopping = True
        for task in self._running:
            task.cancel(STOP)

    def abandon(self) -> None:
        """Cancel whatever is in flight, hand nothing back any more, and stop the loop no more."""
        self._abandoned = True
        self.cancel()
        # A stop that was asked for before must not end whatever the loop is used for next.
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def _end(self, task: asyncio.Task[Ended]) -> None:
        place = self._running.pop(task)
        place.leave()
        if task.cancelled() and self._stopping:
            # It had not begun.
            ended = Ended(cancelled=True)
        elif task.cancelled():
            ended = Ended(error=asyncio.CancelledError())
        elif error := task.exception():
            ended = Ended(error=error)
        else:
            ended = task.result()
        self._ended.append((place.item, ended))
        if self._abandoned:
            return
        if self.behind:
            self._loop.stop()
        else:
            self._lull.ask(self._loop.stop)


class _Place:
    """The place of one run in the window, which is left once."""

    def __init__(self, window: Window, item: RunItem) -> None:
        self._window = window
        self.item = item
        self.left = False

    def leave(self) -> None:
        if not self.left:
            self.left = True
            self._window._change(self.item, -1)

    def leave_and_refill(self, result: Result) -> None:
        self.leave()
        self._window.refill(self.item, result)
