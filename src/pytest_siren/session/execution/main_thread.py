"""Executes a run whose test function is called in the main thread, where its fixtures are."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_siren.evaluation.isolation import STOP, UserInterrupt, marked_interrupts
from pytest_siren.session.execution.output_capture import OUTPUT
from pytest_siren.session.items.function_run import FunctionRun

if TYPE_CHECKING:
    from pytest_siren.agents.function import SirenRun

_ENDING = 10.0
"""Seconds that a run has to end after Ctrl-C."""


class _GivenUp(KeyboardInterrupt):
    """The run has ended while its function was at work."""


@dataclass(eq=False)
class _Call:
    """The function is to be called for ``run``."""

    run: SirenRun
    context: Context = field(default_factory=copy_context)
    done: asyncio.Future[object] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    work: Future[Any] | None = None
    """The function, where it is awaited on the event loop of the run."""
    entered: bool = False
    left: bool = False
    given_up: bool = False
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def finish(self, result: object = None, error: BaseException | None = None) -> None:
        """Let the run go on with what the function came to."""

        def settle() -> None:
            if self.done.done():
                return
            if error is None:
                self.done.set_result(result)
            elif isinstance(error, StopIteration):
                self.done.set_exception(RuntimeError(f"StopIteration: {error}"))
            else:
                self.done.set_exception(error)

        self.done.get_loop().call_soon_threadsafe(settle)

    def give_up(self) -> None:
        """End the function, wherever it is at work: nobody waits for it any more."""
        with self._changing:
            self.given_up = True
            if self.work is not None:
                self.work.cancel()
            elif self.entered and not self.left:
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Let ``give_up`` raise ``_GivenUp`` in this block; Ctrl-C is a ``UserInterrupt``."""
        before = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        if not in_main or not callable(before):
            yield
            return
        signal.signal(signal.SIGINT, self._interrupting(before))
        try:
            with self._changing:
                self.entered = True
            yield
        finally:
            self.left = True
            with self._changing:  # a signal that was on its way has arrived
                pass
            signal.signal(signal.SIGINT, before)

    def _interrupting(self, before: Callable[[int, FrameType | None], Any]) -> Any:
        def received(number: int, frame: FrameType | None) -> None:
            if self.given_up:
                if not self.left:
                    raise _GivenUp
                return
            try:
                before(number, frame)
            except KeyboardInterrupt as interrupt:
                raise UserInterrupt(*interrupt.args) from interrupt

        return received


@dataclass(eq=False)
class InMainThread:
    """The run of ``item``. Its event loop goes on in another thread."""

    item: FunctionRun
    _loop: asyncio.AbstractEventLoop
    _complete: Callable[[Coroutine[Any, Any, Any]], Any]
    """Returns what the event loop makes of something."""
    _execute: Callable[[FunctionRun], Coroutine[Any, Any, Any]]
    """What executes the run on the event loop; this returns what it returns."""
    without_fixtures: bool = False
    """Whether its fixtures could not be set up."""
    _calls: SimpleQueue[_Call | None] = field(default_factory=SimpleQueue)
    """What is to be called; ``None`` at the end of the run."""
    _pending: _Call | None = None
    _task: asyncio.Task[Any] | None = None
    _came_to: Any = None
    _error: BaseException | None = None

    def begin(self) -> None:
        """Begin the run, and set up the fixtures as soon as it asks for the function.

        Raises what these raise, and ``UserInterrupt``; the run is neither executed nor recorded
        then.
        """
        __tracebackhide__ = True
        self.item.variant.current = self.item.executing = self
        threading.Thread(target=self._run, name="siren-run", daemon=True).start()
        with self._stopped_by_ctrl_c():
            self._pending = self._calls.get()
            if self._pending is None:
                return
            try:
                self.item.set_up_fixtures(self._pending.run)
            except KeyboardInterrupt:
                raise
            except BaseException:
                self.without_fixtures = True
                self._stop()
                self._refuse()
                raise

    def end(self) -> Any:
        """Call the function as often as the run asks for it; return what the run came to.

        Raises what the executing of the run raises, and ``UserInterrupt``.
        """
        with self._stopped_by_ctrl_c():
            while self._pending is not None:
                self._call(self._pending)
                self._pending = self._calls.get()
        if self._error is not None:
            raise self._error
        return self._came_to

    async def call(self, run: SirenRun) -> object:
        """See ``session.items.function_run.InMainThread``; called on the event loop."""
        call = _Call(run)
        self._calls.put(call)
        try:
            return await call.done
        except asyncio.CancelledError:
            call.give_up()
            raise

    def wait_for(self, work: Awaitable[object]) -> None:
        """See ``session.items.function_run.InMainThread``."""
        assert self._pending is not None
        call = self._pending
        with call._changing:
            call.work = asyncio.run_coroutine_threadsafe(_outcome(work), self._loop)
        error = call.work.result()
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            self._came_to = self._complete(self._executed())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error
        self.item.variant.current = None
        self._calls.put(None)

    async def _executed(self) -> Any:
        self._task = asyncio.current_task()
        return await self._execute(self.item)

    def _call(self, call: _Call) -> None:
        if call.given_up:
            return
        # What the function prints is pytest's to capture, as that of any test.
        call.context.run(OUTPUT.set, None)
        try:
            with call.entering():
                result = call.context.run(self.item.call, call.run)
        except _GivenUp:
            return
        except UserInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to the run
            call.finish(error=error)
        else:
            call.finish(result)

    def _refuse(self) -> None:
        """Call nothing, until the run has ended."""
        while self._pending is not None:
            self._pending.finish(error=asyncio.CancelledError())
            self._pending = self._calls.get()

    @contextmanager
    def _stopped_by_ctrl_c(self) -> Iterator[None]:
        try:
            with marked_interrupts():
                yield
        except KeyboardInterrupt:
            self._stop()
            with suppress(Empty):
                while self._calls.get(timeout=_ENDING) is not None:
                    pass
            raise

    def _stop(self) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel, STOP)


async def _outcome(work: Awaitable[object]) -> BaseException | None:
    try:
        await work
    except BaseException as error:  # noqa: BLE001 - raised again in the main thread
        return error
    return None
