from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.session.runner import Ended
from pytest_siren.session.window import Window


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def item() -> Any:
    return SimpleNamespace(job=SimpleNamespace(spec=SimpleNamespace(concurrency=8)))


async def at_once(item: Any, executed: Callable[[Any], None]) -> Ended:
    return Ended()


@pytest.mark.parametrize("runs", [1, 3, 40])
def test_a_step_leaves_nothing_behind_that_stops_the_loop(
    loop: asyncio.AbstractEventLoop, runs: int
) -> None:
    board: Any = {}
    window = Window(loop, at_once, 64, board)
    taken = 0
    for _ in range(runs):
        window.start(item())
    # A run that ends cuts the step short in which it does.
    window.step(0)
    while window.take():
        taken += 1
        window.step(0)
    assert taken == runs
    assert loop.run_until_complete(asyncio.sleep(0.01, "whole")) == "whole"
