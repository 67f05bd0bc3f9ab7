from __future__ import annotations

import asyncio
import selectors
import socket

import pytest

from pytest_siren.session.execution.event_loop import Lull


def test_a_call_is_made_once_when_the_loop_would_wait(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    events: list[str] = []
    lull.ask(lambda: events.append("lull"))

    async def work() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
            events.append("busy")
        await asyncio.sleep(0.01)
        events.append("waited")
        await asyncio.sleep(0.01)

    loop.run_until_complete(work())
    assert events == [*["busy"] * 50, "lull", "waited"]


def test_what_has_come_in_is_seen_to_before_a_call(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    events: list[str] = []
    ours, theirs = socket.socketpair()

    async def work() -> None:
        lull.ask(lambda: events.append("lull"))
        arrived = asyncio.Event()

        def arrive() -> None:
            events.append("arrived")
            loop.remove_reader(ours)
            arrived.set()

        loop.add_reader(ours, arrive)
        theirs.send(b"answer")
        await arrived.wait()
        await asyncio.sleep(0.01)

    with ours, theirs:
        loop.run_until_complete(work())
    assert events == ["arrived", "lull"]


def test_calls_are_made_in_their_order_and_the_loop_goes_round_between_them(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    events: list[str] = []

    def first() -> None:
        events.append("first")
        loop.call_soon(events.append, "between")

    lull.ask(first)
    lull.ask(lambda: events.append("second"))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert events == ["first", "between", "second"]


def test_a_call_that_was_taken_back_is_not_made(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    events: list[str] = []

    def call() -> None:
        events.append("lull")

    lull.forget(call)
    lull.ask(call)
    lull.forget(call)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert events == []


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """How long selectors were asked to wait, in seconds; they do not wait."""
    waited: list[float | None] = []

    def select(_: selectors.BaseSelector, timeout: float | None = None) -> list[object]:
        waited.append(timeout)
        return []

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    return waited


def test_another_thread_gets_some_time_before_the_next_call(
    lull: Lull, waited: list[float | None]
) -> None:
    lull.ask(lambda: True)
    lull.ask(lambda: None)
    assert [lull.select(None), lull.select(None)] == [[], []]
    # One look before each call; the thread gets two milliseconds after the first.
    assert waited == [0, 0.002, 0]


@pytest.mark.parametrize(("timer", "wait"), [(0.0015, 0.0015), (60.0, 0.002)])
def test_timers_are_on_time_whatever_is_asked_for(
    lull: Lull, waited: list[float | None], timer: float, wait: float
) -> None:
    lull.ask(lambda: True)
    lull.select(timer)
    lull.select(timer)
    assert waited == [0, wait, timer]
