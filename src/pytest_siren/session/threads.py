"""Threads that nobody waits for when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """At most ``limit`` daemon threads, started as they are needed.

    A tool that blocks for ever must not keep a session from ending, and the threads of the standard
    library's pool do: the interpreter joins them at exit. Nor may it keep other calls waiting: a
    thread whose call is cancelled while it works is abandoned, and another takes its place.
    """

    def __init__(self, limit: int) -> None:
        # asyncio accepts nothing but its subclasses; none of the base's own state is used.
        super().__init__(max_workers=limit)
        self._limit = limit
        self._work: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads_started = 0
        self._serving = 0
        """Threads that are there for further calls."""
        self._idle = 0
        self._abandoned = 0
        self._counting = threading.RLock()

    @property
    def abandoned(self) -> int:
        """How many threads still work on calls that nobody waits for any more."""
        return self._abandoned

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` in a thread, when one is free."""
        # As the caller's: it tells whose output is whose.
        call = _Call(self, partial(copy_context().run, fn, *args, **kwargs))
        with self._counting:
            if self._idle:
                self._idle -= 1
            else:
                self._start_one()
        self._work.put(call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; busy ones are left to themselves."""
        for _ in range(self._threads_started):
            self._work.put(None)

    def abandon(self, call: _Call) -> None:
        """Let another thread do the work of the one that is busy with ``call``."""
        with self._counting:
            if call.abandoned or call.done():
                return
            call.abandoned = True
            self._abandoned += 1
            self._serving -= 1
            if self._work.qsize():
                self._start_one()

    def _start_one(self) -> None:
        if self._serving < self._limit:
            self._serving += 1
            self._threads_started += 1
            name = f"siren-{self._threads_started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while (call := self._work.get()) is not None:
            call.work()
            with self._counting:
                if call.abandoned:
                    # It has been replaced.
                    self._abandoned -= 1
                    return
                self._idle += 1
            # Nothing here may keep the results of work that is done alive.
            del call


class _Call(Future[Any]):
    """Work for a thread. It cannot be cancelled once it is being done, but abandoned."""

    def __init__(self, threads: DaemonThreads, function: Callable[[], Any]) -> None:
        super().__init__()
        self.abandoned = False
        self._threads = threads
        self._function: Callable[[], Any] | None = function

    def cancel(self) -> bool:
        """Cancel the call before it begins; abandon its thread afterwards."""
        if super().cancel():
            return True
        self._threads.abandon(self)
        return False

    def work(self) -> None:
        """Make the call, in the thread."""
        function, self._function = self._function, None
        if function is None or not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            if isinstance(error, StopIteration):
                # asyncio cannot carry it out of a thread: whoever waits would wait for ever.
                error = RuntimeError(f"StopIteration: {error}")
            self.set_exception(error)
