"""The event loop of a process's runs: its idle moments, blocks, threads and garbage collector."""

from __future__ import annotations

import asyncio
import gc
import queue
import selectors
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeVar

from pytest_siren.evaluation.isolation import (
    STOP,
    GuardedTask,
    UserInterrupt,
    marked_interrupts,
    one_line,
)

_YOUNG = 200_000
"""Objects made and not freed after which the collector looks at the young ones; Python's own
number is 700."""


@contextmanager
def no_collections() -> Iterator[None]:
    """Keep the garbage collector from looking at what is being made, again and again.

    To collect 100,000 runs takes 9 s of CPU instead of 18 s, to import pydantic-ai and OpenAI's
    client 1.1 s instead of 1.25 s.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def set_aside() -> Iterator[None]:
    """Keep the garbage collector from all that there is now, and let it look at the rest seldom.

    Runs leave little garbage that it alone can free; records and reports that stay make it look.
    What is set aside stays so: at the end pytest has the collector look at everything ten times,
    which takes more than a second where AgentDojo is loaded. ``give_back`` ends it.
    """
    threshold = gc.get_threshold()
    gc.freeze()
    if threshold[0]:
        gc.set_threshold(max(_YOUNG, threshold[0]), *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def give_back() -> None:
    """Show the garbage collector again what an earlier session of this process set aside."""
    gc.unfreeze()


_PAUSE = 0.002
"""Seconds for which another thread is left the interpreter."""


class Lull(selectors.DefaultSelector):
    """A selector that tells when its event loop is about to wait.

    What takes long and is not urgent is done then: no answer that is there waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Callable[[], bool | None], None] = {}
        self.busy_since: float | None = None
        """When the step of the loop began that goes on, on a clock that nobody sets."""

    def ask(self, call: Callable[[], bool | None]) -> None:
        """Call ``call`` once, the next time that the loop is about to wait.

        Several are called one at a time, in the order in which they were asked for. One that has
        given another thread something to do returns ``True``, and that thread gets some time.
        """
        self._calls[call] = None

    def forget(self, call: Callable[[], bool | None]) -> None:
        """Do not call ``call`` after all; does nothing when nobody asked for it."""
        self._calls.pop(call, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, as any selector does; nothing when it has made a call instead."""
        self.busy_since = None
        ready = self._selected(timeout)
        self.busy_since = time.monotonic()
        return ready

    def _selected(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._calls or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        call = next(iter(self._calls))
        del self._calls[call]
        if not call():
            return []
        return super().select(_PAUSE if timeout is None else min(timeout, _PAUSE))


_LONGEST_STEP = 1.0
"""Seconds that one step of the event loop may take."""
_LOOK_EVERY = 0.25
"""Seconds between two looks."""


class BlockingWatch:
    """Looks from a thread of its own, in this block, whether a step of ``loop`` takes too long.

    Only code in the user's files below ``root`` is found, and only the first that blocks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lull: Lull, root: Path) -> None:
        self._loop, self._lull, self._root = loop, lull, root
        self._over = threading.Event()
        self._found: str | None = None

    def __enter__(self) -> BlockingWatch:
        watched = threading.get_ident()
        threading.Thread(
            target=self._watch, args=(watched,), name="siren-watch", daemon=True
        ).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()

    def take(self) -> str | None:
        """Return what blocks, once; ``None`` where nothing has been found."""
        found, self._found = self._found, None
        return found

    def _watch(self, watched: int) -> None:
        while not self._over.wait(_LOOK_EVERY):
            since = self._lull.busy_since
            if since is None or time.monotonic() - since < _LONGEST_STEP:
                continue
            frame = next(_own(sys._current_frames().get(watched), self._root), None)
            if frame is not None and self._lull.busy_since == since:
                self._found = self._described(frame)
                return

    def _described(self, frame: FrameType) -> str:
        from pytest_siren.text.words import shown

        task = asyncio.current_task(self._loop)
        run = "" if task is None else f" in {task.get_name()}"
        place = shown(Path(frame.f_code.co_filename), self._root).as_posix()
        return (
            f"{place}:{frame.f_lineno}: {frame.f_code.co_name} blocks the event loop{run}, "
            f"so that all other runs wait ({_LONGEST_STEP:g} s and more): await what takes long, "
            "call it by asyncio.to_thread, or let a plain def be the agent"
        )


def _own(frame: FrameType | None, root: Path) -> Iterator[FrameType]:
    """Yield the frames in the user's files, innermost first."""
    from pytest_siren.session.items.tracebacks import is_own

    while frame is not None:
        if is_own(Path(frame.f_code.co_filename), root):
            yield frame
        frame = frame.f_back


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


_CLOSING = 5.0
"""Seconds that tasks and asynchronous generators have to end when the loop is closed."""


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
        self.set_default_executor(self._threads)
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
        self._threads.shutdown()
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
        self._stop_workers_of_anyio()
        self.close()

    def _stop_workers_of_anyio(self) -> None:
        """Stop the threads in which anyio runs synchronous functions of this loop.

        anyio stops them when the task ends that began the first call. A task that was abandoned
        does not end, and the interpreter would wait for its threads for ever.
        """
        for thread in threading.enumerate():
            stop = getattr(thread, "stop", None)
            if getattr(thread, "loop", None) is self and callable(stop):
                # One that is stopped already, and still in its last function, has no room for it.
                with suppress(queue.Full):
                    stop()

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
