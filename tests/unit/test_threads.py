"""Threads for blocking calls: those that hang are replaced."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable

from pytest_siren.session.execution.event_loop import DaemonThreads


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.001)
    return holds()


def test_threads_that_hang_are_replaced_and_counted() -> None:
    threads, gate = DaemonThreads(2), threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        gate.wait(30)

    for round_ in range(1, 4):
        calls = [threads.submit(hang) for _ in range(2)]
        for _ in calls:
            assert begun.acquire(timeout=10)
        for call in calls:
            assert not call.cancel()
            call.cancel()
        assert threads.abandoned == 2 * round_
        assert threads.submit(lambda: "done").result(timeout=10) == "done"
    gate.set()
    assert eventually(lambda: threads.abandoned == 0)
    assert threads.submit(lambda: "done").result(timeout=10) == "done"


def test_calls_that_wait_already_get_the_thread_that_replaces_a_hung_one() -> None:
    threads, gate, begun = DaemonThreads(1), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(30)

    hung = threads.submit(hang)
    waiting = threads.submit(lambda: 1)
    dropped = threads.submit(lambda: 2)
    assert begun.wait(10)
    assert dropped.cancel()
    hung.cancel()
    assert waiting.result(timeout=10) == 1
    assert threads.submit(lambda: 3).result(timeout=10) == 3
    gate.set()


def test_a_thread_that_is_done_serves_the_next_call() -> None:
    threads = DaemonThreads(4)
    names = set()
    for _ in range(20):
        names.add(threads.submit(lambda: threading.current_thread().name).result(timeout=10))
        assert eventually(lambda: threads._idle > 0)
    assert names == {"siren-1"}


def test_a_call_has_the_context_of_whoever_makes_it() -> None:
    threads, variable = DaemonThreads(1), contextvars.ContextVar("variable", default=0)
    found = []
    for value in (1, 2):
        variable.set(value)
        found.append(threads.submit(variable.get).result(timeout=10))
    assert found == [1, 2]


def test_a_stop_iteration_reaches_who_waits() -> None:
    async def wait() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(DaemonThreads(1))
        try:
            await asyncio.wait_for(asyncio.to_thread(next, iter(())), 10)
        except RuntimeError as error:
            return str(error)
        return "nothing"

    assert asyncio.run(wait()).startswith("StopIteration")
