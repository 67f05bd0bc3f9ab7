from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_siren.session.execution.event_loop import Lull
from pytest_siren.session.execution.executor import Ended
from pytest_siren.session.execution.run_loop import Window


def item() -> Any:
    return SimpleNamespace(job=SimpleNamespace(spec=SimpleNamespace(concurrency=8)))


async def at_once(item: Any, executed: Callable[[Any], None]) -> Ended:
    return Ended()


@pytest.mark.parametrize("runs", [1, 3, 40])
def test_a_step_leaves_nothing_behind_that_stops_the_loop(
    loop: asyncio.AbstractEventLoop, lull: Lull, runs: int
) -> None:
    board: Any = {}
    window = Window(loop, at_once, 64, board, lull)
    taken = 0
    for _ in range(runs):
        window.start(item())
    # Runs that end cut the step short in which they do.
    window.step(0)
    while window.take():
        taken += 1
        window.step(0)
    assert taken == runs
    assert loop.run_until_complete(asyncio.sleep(0.01, "whole")) == "whole"


def busy_for(loop: asyncio.AbstractEventLoop, rounds: int) -> list[int]:
    """Keep ``loop`` busy for so many rounds; the list that is returned says how many are left."""
    left = [rounds]

    def again() -> None:
        left[0] -= 1
        if left[0]:
            loop.call_soon(again)

    loop.call_soon(again)
    return left


def test_a_run_that_has_ended_is_handed_back_once_nothing_else_can_go_on(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    board: Any = {}
    window = Window(loop, at_once, 64, board, lull)
    window.start(item())
    left = busy_for(loop, 200)
    window.step(5)
    assert left == [0]
    assert window.take()


def test_runs_that_have_ended_do_not_wait_for_a_lull_for_ever(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    board: Any = {}
    window = Window(loop, at_once, 64, board, lull)
    window.start(item())
    window.step(0)
    busy_for(loop, 10**9)
    window.step(10**6)
    assert window.take()


def test_no_more_runs_wait_to_be_handed_back_than_may_be_in_flight(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    board: Any = {}
    window = Window(loop, at_once, 16, board, lull)
    for _ in range(200):
        window.start(item())
    left = busy_for(loop, 10**6)
    window.step(60)
    assert left[0] > 10**6 - 100
    taken = 0
    while window.take():
        taken += 1
    assert taken >= 16
