from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pytest_siren.models.ratelimit.error_class import NO_ADVICE, Advice
from pytest_siren.models.ratelimit.limiter import Caps, RateLimiter, RateLimiters
from pytest_siren.models.ratelimit.shared_cells import Cell, LocalCells
from pytest_siren.sharing.state import Board, Gauge
from tests.unit.simulated_time import run_simulated

LONGEST_POLL = 0.05
"""Seconds that a request may be later than its place, to look at what other processes hold."""


def limiter_of(
    ceiling: int = 4, limit: float | None = None, caps: Caps | None = None
) -> RateLimiter:
    cells = LocalCells()
    if limit is not None:
        cells[Cell.LIMIT] = limit
    clock = asyncio.get_running_loop().time
    return RateLimiter(cells, ceiling=ceiling, caps=caps or Caps(), clock=clock)


def now() -> float:
    return asyncio.get_running_loop().time()


async def acquired(limiter: RateLimiter, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_places_go_in_the_order_of_asking() -> None:
    async def run() -> None:
        limiter = limiter_of(ceiling=2)
        tasks = await acquired(limiter, 5)
        assert [task.done() for task in tasks] == [True, True, False, False, False]
        for done in (3, 4, 5):
            limiter.release()
            await asyncio.sleep(0)
            assert [task.done() for task in tasks] == [True] * done + [False] * (5 - done)
        assert limiter.in_flight == 2

    run_simulated(run())


def test_the_adaptive_limit_binds_and_rises_for_those_who_wait() -> None:
    async def run() -> None:
        limiter = limiter_of(ceiling=8, limit=1.0)
        first, second = await acquired(limiter, 2)
        assert (first.done(), second.done()) == (True, False)
        for _ in range(5):
            await asyncio.sleep(0.06)
            limiter.succeeded(0.01, NO_ADVICE)
        await asyncio.wait_for(second, 2.0)
        assert limiter.in_flight == 2

    run_simulated(run())


def test_a_cancelled_request_leaves_no_place_behind() -> None:
    async def run() -> None:
        limiter = limiter_of(ceiling=1)
        first, second, third = await acquired(limiter, 3)
        second.cancel()
        await asyncio.sleep(0)
        limiter.release()
        # Given a place and cancelled before it could notice.
        third.cancel()
        await asyncio.gather(second, third, return_exceptions=True)
        assert limiter.in_flight == 0
        await asyncio.wait_for(limiter.acquire(), 1.0)
        assert first.done()

    run_simulated(run())


def test_the_place_of_a_refused_request_cools_and_comes_back() -> None:
    async def run() -> None:
        limiter = limiter_of(ceiling=1)
        await limiter.acquire()
        limiter.succeeded(0.05, NO_ADVICE)
        limiter.release_after_cooldown()
        started = now()
        await limiter.acquire()
        assert now() - started == pytest.approx(0.05)
        assert limiter.in_flight == 1

    run_simulated(run())


def test_everybody_waits_while_the_provider_says_so() -> None:
    async def run() -> None:
        limiter = limiter_of()
        limiter.refused(Advice(exhausted=True, resets_in=0.15))
        started = now()
        await limiter.acquire()
        assert now() - started == pytest.approx(0.15)

    run_simulated(run())


def test_a_cap_on_requests_is_kept() -> None:
    async def run() -> list[float]:
        limiter = limiter_of(ceiling=100, caps=Caps(requests_per_minute=1_200))
        moments: list[float] = []

        async def one() -> None:
            await limiter.acquire()
            moments.append(now())
            limiter.release()

        await asyncio.gather(*(one() for _ in range(50)))
        return moments

    moments = run_simulated(run())
    # 20 a second, of which one second's may come at once.
    assert moments[19] == moments[0]
    assert 30 / 20 <= moments[-1] - moments[0] <= 30 / 20 + LONGEST_POLL


def test_a_cap_on_tokens_is_kept_by_what_requests_really_had() -> None:
    async def run() -> float:
        limiter = limiter_of(ceiling=100, caps=Caps(tokens_per_minute=60_000))
        assert limiter.counts_tokens
        started = now()
        await limiter.acquire(100)
        limiter.release(1_900)
        await limiter.acquire(100)
        return now() - started

    # 1,000 a second, of which one second's may come at once.
    assert 1.0 <= run_simulated(run()) <= 1.0 + LONGEST_POLL


def test_nothing_limits_and_no_lock_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board.open(tmp_path / "board")
    limiter = RateLimiters(board, 2).limiter("openai:gpt-5")
    monkeypatch.setattr(
        "pytest_siren.sharing.state.fcntl.flock", lambda *arguments: pytest.fail("locked")
    )

    async def run() -> None:
        for _ in range(3):
            await limiter.acquire()
            limiter.succeeded(0.3, NO_ADVICE)
            limiter.release()

    run_simulated(run())
    monkeypatch.undo()
    board.close()


def test_those_who_wait_are_on_the_board(tmp_path: Path) -> None:
    board = Board.open(tmp_path / "board")
    limiter = RateLimiters(board, 4).limiter("openai:gpt-5")

    async def run() -> None:
        before = time.time()
        limiter.refused(Advice(exhausted=True, resets_in=60.0))
        tasks = await acquired(limiter, 3)
        assert board[Gauge.HELD] == 3
        assert before + 59 <= board[Gauge.RESUMES_AT] <= time.time() + 61
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (board[Gauge.HELD], board[Gauge.RESUMES_AT]) == (0, 0)

    run_simulated(run())
    board.close()


def test_each_model_has_a_budget_of_its_own(tmp_path: Path) -> None:
    for board in (None, Board.open(tmp_path / "board")):
        limiters = RateLimiters(board, 4)
        one, other = limiters.limiter("openai:a"), limiters.limiter("openai:b")
        assert limiters.limiter("openai:a") is one
        one.refused(NO_ADVICE)
        assert (one.limit.binding, other.limit.binding) == (True, False)
