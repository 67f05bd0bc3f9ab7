"""How long a run took, and how much of that it only waited."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from pytest_siren.evaluation.isolation import Stopwatch, waiting
from pytest_siren.evaluation.run import Execution, execute, supervised
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.stage import Stage, Target
from pytest_siren.evaluation.states import End
from tests.unit import test_cost_runs
from tests.unit.limits_server import BUSY, Answer, FakeClock, governed, serving
from tests.unit.test_limits_runs import plan


def test_waits_are_counted_and_those_that_overlap_count_once() -> None:
    clock = FakeClock()
    stopwatch = Stopwatch(clock)
    with stopwatch.waiting():
        clock.now += 2
        assert stopwatch.waited == 2
        with stopwatch.waiting():
            clock.now += 3
        assert stopwatch.waited == 5
    clock.now += 7
    assert stopwatch.waited == 5
    with suppress(ValueError), stopwatch.waiting():
        clock.now += 1
        raise ValueError
    assert stopwatch.waited == 6
    assert (stopwatch.now() - stopwatch.started_at).total_seconds() == 13


def test_each_run_counts_what_its_own_tasks_wait() -> None:
    clock = FakeClock()

    async def wait(seconds: float) -> None:
        with waiting():
            clock.now += seconds

    async def run(stopwatch: Stopwatch, seconds: float) -> None:
        stopwatch.measure_this_run()
        await asyncio.create_task(wait(seconds))

    async def both() -> None:
        await asyncio.gather(run(one, 2), run(other, 3))

    one, other = Stopwatch(clock), Stopwatch(clock)
    asyncio.run(both())
    assert (one.waited, other.waited) == (2, 3)
    with waiting():
        pass  # belongs to no run, and is no error


@pytest.mark.parametrize("status", [429, 500])
def test_a_run_tells_how_long_it_waited_for_a_rate_limit(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    refused = replace(BUSY, status=status, headers={"retry-after-ms": "300"}, latency=0.2)
    answers = [refused, Answer(latency=0.2)]

    async def run() -> Execution:
        async with (
            serving(lambda number: answers[number]) as server,
            governed(server, monkeypatch) as source,
        ):
            execution = Execution(plan(source))
            await execution.run()
            return execution

    execution = asyncio.run(run())
    assert execution.outcome is not None
    (retry,) = execution.outcome.retries
    # The wait after a refusal is advised, that after an accident is drawn by lot.
    assert execution.waited == pytest.approx(retry.waited, abs=0.1)
    if status == 429:
        assert execution.waited >= 0.3
    assert execution.waited <= execution.outcome.duration - 0.4 + 0.05


def test_so_does_one_that_waits_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Answer(
        headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "400ms"}
    )

    async def run() -> list[float]:
        async with (
            serving(lambda number: last if number == 0 else Answer()) as server,
            governed(server, monkeypatch) as source,
        ):
            executions = [Execution(plan(source)) for _ in range(2)]
            for execution in executions:
                await execution.run()
            return [execution.waited for execution in executions]

    first, second = asyncio.run(run())
    assert first == 0
    assert 0.25 <= second


def test_a_rate_limit_does_not_use_up_the_time_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = replace(BUSY, headers={"retry-after-ms": "1500"})
    answers = [refused, Answer()]

    async def run() -> Execution:
        async with (
            serving(lambda number: answers[number]) as server,
            governed(server, monkeypatch) as source,
        ):
            execution = Execution(plan(source))
            await supervised(execution, timeout=1.0)
            return execution

    execution = asyncio.run(run())
    assert execution.outcome is not None
    assert execution.outcome.status is Status.SCORED, execution.outcome.error
    assert execution.waited >= 1.4
    assert execution.outcome.duration >= 1.4


class Asks:
    """An attack that asks a person first, who takes ``waits`` seconds, and then works."""

    rewinds = False

    def __init__(self, waits: float, works: float) -> None:
        self.waits, self.works = waits, works

    def recording(self, model: object) -> None:
        return None

    async def run(self, stage: Stage, target: Target) -> End:
        with stage.waiting():
            await asyncio.sleep(self.waits)
        await asyncio.sleep(self.works)
        return await stage.finish(await stage.begin({"body": "x"}))


def test_nor_does_a_person_who_is_waited_for() -> None:
    patient = test_cost_runs.plan(attack=Asks(waits=0.9, works=0.0))
    outcome = asyncio.run(execute(patient, timeout=0.6))
    assert outcome.status is Status.SCORED, outcome.error


def test_work_after_a_wait_is_limited_as_ever() -> None:
    slow = test_cost_runs.plan(attack=Asks(waits=0.5, works=60))
    outcome = asyncio.run(execute(slow, timeout=0.3))
    assert outcome.error is not None
    assert outcome.error.type == "RunTimeoutError"
    assert 0.8 <= outcome.duration < 20
