"""The event loop of a process's runs, which foreign code can neither end nor keep from ending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pytest_siren.evaluation.failures import UserInterrupt, one_line
from pytest_siren.evaluation.isolation import STOP, GuardedTask
from pytest_siren.session.interrupts import marked_interrupts
from pytest_siren.session.lull import Lull
from pytest_siren.session.threads import DaemonThreads

_CLOSING = 5.0
"""Seconds that tasks and asynchronous generators have to end when the loop is closed."""

T = TypeVar("T")


class RunEventLoop(asyncio.SelectorEventLoop):
    """An event loop that outlives ``sys.exit`` and ``KeyboardInterrupt`` of the tasks on it.

    asyncio lets both end the loop from within any task. Here they are exceptions of the task like
    all others, and only a person's Ctrl-C ends the loop.
    """

    def __init__(self, lull: Lull, warn: Callable[[str], None]) -> None:
        """``warn`` is called with what no run can be blamed for."""
        super().__init__(lull)
        self._warn = warn
        self._threads = DaemonThreads(1)
        self._abandoned: set[asyncio.Task[Any]] = set()

    def run_forever(self) -> None:
        """Run until stopped, or until a task exits, which is a warning."""
        try:
            super().run_forever()
        except UserInterrupt:
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._warn(f"{one_line(error)}: raised in a task that code of a run had started")

    def complete(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what ``coroutine`` comes to, whatever tasks exit meanwhile."""
        with marked_interrupts():
            task = GuardedTask(coroutine, loop=self)
            task.add_done_callback(lambda _: self.stop())
            while not task.done():
                self.run_forever()
            return task.result()

    def use_threads(self, limit: int) -> None:
        """Make at most ``limit`` blocking calls at a time, beside those that were abandoned."""
        self._threads = DaemonThreads(limit)
        self.set_default_executor(self._threads)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing: code of one run would take the threads of all others; see ``end``."""

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """Wait no more for ``task``, which does not let itself be cancelled."""
        self._abandoned.add(task)

    @property
    def hung(self) -> int:
        """How many calls go on that nobody waits for: threads, and tasks that cannot be stopped."""
        return self._threads.abandoned + sum(not task.done() for task in self._abandoned)

    def end(self) -> None:
        """Cancel what is left, wait a little for it, and close. Whatever goes on is left behind."""
        if self.is_closed():
            return
        with marked_interrupts():
            deadline = time.monotonic() + _CLOSING
            while (left := self._cancelled()) and time.monotonic() < deadline:
                self._give_time(asyncio.wait(left, timeout=0.5))
            self._give_time(self.shutdown_asyncgens())
        # Nobody reads the exceptions of what is abandoned, and it is destroyed as it is.
        self.set_exception_handler(lambda loop, context: None)
        self._threads.shutdown()
        self.close()

    def _cancelled(self) -> set[asyncio.Task[Any]]:
        """Cancel all tasks that have not ended, but for those given up already; return them."""
        left = asyncio.all_tasks(self) - self._abandoned
        for task in left:
            task.cancel(STOP)
        return left

    def _give_time(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run ``coroutine``, but no longer than the loop may take to close."""
        task = self.create_task(coroutine)
        task.add_done_callback(lambda _: self.stop())
        deadline = time.monotonic() + _CLOSING
        timer = self.call_later(_CLOSING, self.stop)
        while not task.done() and time.monotonic() < deadline:
            self.run_forever()
        timer.cancel()
        if not task.done():
            self.abandon(task)
