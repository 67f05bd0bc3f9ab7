"""A thread for each agent that blocks: those of a pool would be needed by the tools it calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


async def in_own_thread(call: Callable[[], T]) -> T:
    """Return what ``call`` returns in a thread of its own, and raise what it raises there.

    A thread that is cancelled goes on until its next call of a tool or a model. It keeps no process
    from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = copy_context()

    def finish(outcome: tuple[Any, BaseException | None]) -> None:
        if not done.done():
            done.set_result(outcome)

    def work() -> None:
        outcome = _outcome(lambda: context.run(call))
        with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, outcome)

    threading.Thread(target=work, name="siren-agent", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _outcome(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return call(), None
    except StopIteration as error:
        # A coroutine cannot raise StopIteration.
        return None, RuntimeError(f"StopIteration: {error}")
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        return None, error
