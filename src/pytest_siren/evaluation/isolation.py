"""Code of others, run apart so that whatever it raises becomes an error of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")

STOP = "the session stops"
"""What ``asyncio.Task.cancel`` is given when the session stops a run."""
LET_GO = 5.0
"""Seconds that cancelled code has to end before it is abandoned."""
_AGAIN = 0.5
"""Seconds after which code that goes on is cancelled once more."""


class GuardedTask(asyncio.Task[T]):
    """A task that only the session can cancel.

    Code that cancels all tasks of the process, its neighbours' among them, may do so before they
    have begun, when nothing within them could take notice.
    """

    def cancel(self, msg: object = None) -> bool:
        """Cancel the task if ``msg`` is ``STOP``; return whether it was."""
        return msg == STOP and super().cancel(msg)


class Waited(Enum):
    """Why a wait ended."""

    DONE = "done"
    LATE = "late"
    STOPPED = "stopped"


async def wait_for_task(
    task: asyncio.Task[Any], seconds: float | None = None, stop: str | None = None
) -> Waited:
    """Wait until ``task`` is done, ``seconds`` have passed or the waiting task is stopped.

    ``stop`` is the message of the cancellations that stop it; with ``None`` each does. Others come
    from code that cancels all tasks of the process, and are ignored.
    """
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    while not task.done():
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            return Waited.LATE
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            if stop is None or stop in error.args:
                return Waited.STOPPED
    return Waited.DONE


async def let_go(task: asyncio.Task[Any], seconds: float = LET_GO) -> bool:
    """Cancel ``task`` until it is done; return whether it was within ``seconds``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not task.done() and loop.time() < deadline:
        task.cancel(STOP)
        # A further request to stop changes nothing about this bound.
        await wait_for_task(task, min(_AGAIN, seconds), stop="")
    return task.done()


async def undisturbed(awaitable: Awaitable[T]) -> T:
    """Return the result of ``awaitable``, whoever cancels the waiting task meanwhile."""
    future = asyncio.ensure_future(awaitable)
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            continue
    return future.result()


async def in_thread(call: Callable[[], T]) -> T:
    """Return what ``call`` returns in a thread, and raise what it raises there.

    asyncio's own way turns some exceptions into others and waits for ever for ``StopIteration``.
    """
    result, error = await asyncio.to_thread(_attempted, call)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _attempted(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        return None, error


_LONGEST = 2_000
"""Characters of an exception's text that are kept."""
_FOREIGN_CANCELLATION = "raised by the code that was called; the session was not stopped"


class UserInterrupt(KeyboardInterrupt):
    """Ctrl-C of the person at the keyboard.

    A plain ``KeyboardInterrupt`` from a tool, an evaluator or any other part is an error of its
    run, as every exception is; this one ends the session.
    """


def message_of(error: BaseException) -> str:
    """Return the text of ``error``, which is bounded; never raises."""
    try:
        text = str(error)
    except UserInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - somebody's own __str__
        text = f"<its text cannot be read: {type(broken).__name__}>"
    if not text and isinstance(error, asyncio.CancelledError):
        return _FOREIGN_CANCELLATION
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def one_line(error: BaseException) -> str:
    """Return the type and the text of ``error`` on one line."""
    text = " ".join(message_of(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name
