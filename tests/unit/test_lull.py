from __future__ import annotations

import asyncio
import socket
import time

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


def test_another_thread_gets_some_time_before_the_next_call(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    at: list[float] = []

    def hand_over() -> bool:
        at.append(time.monotonic())
        return True

    lull.ask(hand_over)
    lull.ask(lambda: at.append(time.monotonic()))

    async def both() -> None:
        while len(at) < 2:
            await asyncio.sleep(0.01)

    loop.run_until_complete(asyncio.wait_for(both(), 60))
    assert 0.001 < at[1] - at[0]


def test_timers_are_on_time_whatever_is_asked_for(
    loop: asyncio.AbstractEventLoop, lull: Lull
) -> None:
    lull.ask(lambda: True)
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.1))
    assert 0.09 < time.monotonic() - began < 20
