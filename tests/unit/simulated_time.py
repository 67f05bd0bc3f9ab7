"""An event loop whose clock jumps to the next timer, so that no test waits or depends on speed."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Advances ``now``, in seconds, instead of waiting for a timer."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        self.now += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Calls each timer as soon as nothing else can go on, at exactly its time."""

    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now


def run_simulated(coroutine: Coroutine[object, object, T]) -> T:
    """Run ``coroutine`` to its end on a loop of its own, whatever it sleeps for."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(coroutine)
