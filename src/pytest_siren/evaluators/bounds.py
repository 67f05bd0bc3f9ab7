"""Bounds on how long an evaluator may work on what a model wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

AT_ONCE = 0.05
"""Seconds that an evaluator may hold up other runs; what takes longer begins anew in a thread."""
LONGEST = 5.0
"""Seconds after which it is the run's error."""

_END = ContextVar[float | None]("siren_evaluation_end", default=None)
"""When the evaluation that is under way has to have ended, in ``time.monotonic``."""


class EvaluationTimeoutError(Exception):
    """An evaluator worked too long on what the model wrote: there is no score."""


def in_time(name: str, work: Callable[[], float]) -> float | Awaitable[float]:
    """Return what ``work`` returns, at once or from a thread.

    ``work`` has to ask ``left`` often, and is called a second time when the first was stopped.
    Raises ``EvaluationTimeoutError``, which names the evaluator, after ``LONGEST`` seconds.
    """
    try:
        return _limited(work, AT_ONCE)
    except EvaluationTimeoutError:
        return _in_thread(name, work)


def left() -> float:
    """Return how many seconds the evaluation under way may still take.

    Raises ``EvaluationTimeoutError`` when there are none.
    """
    end = _END.get()
    seconds = LONGEST if end is None else end - time.monotonic()
    if seconds <= 0:
        raise EvaluationTimeoutError("out of time")
    return seconds


async def _in_thread(name: str, work: Callable[[], float]) -> float:
    try:
        return await asyncio.to_thread(_limited, work, LONGEST)
    except EvaluationTimeoutError:
        message = f"the evaluator {name} took longer than {LONGEST:g} s on what the model wrote"
        raise EvaluationTimeoutError(message) from None


def _limited(work: Callable[[], float], seconds: float) -> float:
    token = _END.set(time.monotonic() + seconds)
    try:
        return work()
    finally:
        _END.reset(token)
