"""Threads that nobody waits for when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Work = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads(ThreadPoolExecutor):
    """At most ``limit`` daemon threads, started as they are needed.

    A tool that blocks for ever must not keep a session from ending, and the threads of the standard
    library's pool do: the interpreter joins them at exit.
    """

    def __init__(self, limit: int) -> None:
        # asyncio accepts nothing but its subclasses; none of the base's own state is used.
        super().__init__(max_workers=limit)
        self._limit = limit
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._started = 0
        self._idle = 0
        self._counting = threading.Lock()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` in a thread, when one is free."""
        future: Future[T] = Future()
        with self._counting:
            if self._idle:
                self._idle -= 1
            elif self._started < self._limit:
                self._started += 1
                threading.Thread(
                    target=self._serve, name=f"siren-{self._started}", daemon=True
                ).start()
        self._work.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; busy ones are left to themselves."""
        for _ in range(self._started):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                    future.set_exception(error)
            # Nothing here may keep the results of work that is done alive.
            del work, future, call
            with self._counting:
                self._idle += 1
