"""Who frees the environment's states of a run, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.tools import ToolDefinition

from pytest_siren.evaluation.run import RunOutcome, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.stage import Stage, Target
from pytest_siren.evaluation.states import End, InjectableModelRequest
from pytest_siren.evaluation.tasks import (
    BenignTask,
    Evidence,
    MaliciousTask,
    Prompt,
    ToolCall,
    ToolOutcome,
)
from tests.unit.test_cost_runs import Mails, outcome, plan, tokens


@dataclass
class Disk:
    """What a sandbox holds; nobody may use it once it is freed."""

    _written: list[str]
    text: str
    freed: bool = False

    @property
    def written(self) -> list[str]:
        assert not self.freed, "used after it was freed"
        return self._written


class Sandboxes:
    """Environments whose states are invalid once they are freed; counts them."""

    vectors: Mapping[str, str] = {"note": "nothing"}

    def __init__(self) -> None:
        self.disks: list[Disk] = []
        self.opened = 0

    @property
    def still_open(self) -> int:
        return sum(not disk.freed for disk in self.disks)

    def tools(self, task: BenignTask) -> list[ToolDefinition]:
        return [ToolDefinition(name="read")]

    def open(self, task: BenignTask, contents: Mapping[str, str]) -> Any:
        self.opened += 1
        return self._held(Disk([], contents.get("note", "nothing")))

    @asynccontextmanager
    async def _held(self, disk: Disk) -> AsyncIterator[Disk]:
        self.disks.append(disk)
        try:
            yield disk
        finally:
            disk.freed = True

    def prompt(self, state: Disk, task: BenignTask) -> Prompt:
        return Prompt(task.prompt)

    async def call(self, state: Disk, call: ToolCall) -> ToolOutcome:
        state.written.append(str(call.id))
        return ToolOutcome(state.text, vectors=frozenset({"note"}))


class Snapshots(Sandboxes):
    """Sandboxes that can be copied."""

    def snapshot(self, state: Disk) -> Any:
        return self._held(Disk(list(state.written), state.text))


KINDS = pytest.mark.parametrize("kind", [Sandboxes, Snapshots])


@dataclass
class Judge:
    """An evaluator that looks at both states."""

    seen: list[tuple[Any, list[str]]] = field(default_factory=list)

    def __call__(self, evidence: Evidence) -> float:
        before = evidence.pre_state
        self.seen.append((before and list(before.written), list(evidence.post_state.written)))
        return 1.0


@dataclass
class Driver:
    """An attack that is what ``drive`` is."""

    drive: Callable[[Stage], Awaitable[End]]
    rewinds: bool = True

    def recording(self, model: Any) -> None:
        return None

    async def run(self, stage: Stage, target: Target) -> End:
        return await self.drive(stage)


def reads_twice(turn: int) -> ModelResponse:
    if turn < 2:
        return ModelResponse([ToolCallPart("read", {}, f"c{turn}")], usage=tokens())
    return ModelResponse([TextPart("done")], usage=tokens())


def ran(
    environment: Sandboxes,
    drive: Callable[[Stage], Awaitable[End]],
    rewinds: bool = True,
    judge: Judge | None = None,
) -> tuple[RunOutcome, Judge]:
    judge = judge or Judge()
    dataset = Mails()
    dataset.environment = environment  # type: ignore[assignment]
    given = plan(reads_twice, dataset=dataset, attack=Driver(drive, rewinds))
    malicious = MaliciousTask("goal", "Win.", {"wins": judge})
    given = replace(given, context=replace(given.context, malicious=malicious))
    return outcome(given), judge


async def requests(stage: Stage, contents: Mapping[str, str], count: int = 1) -> Any:
    """Step until the model is about to read planted content for the ``count``th time."""
    state: Any = await stage.begin(contents)
    while count:
        state = await stage.step(state)
        count -= isinstance(state, InjectableModelRequest)
    return state


@KINDS
def test_the_state_before_the_run_is_open_when_it_is_judged(kind: type[Sandboxes]) -> None:
    async def drive(stage: Stage) -> End:
        return await stage.finish(await stage.begin({"note": "EVIL"}))

    environment = kind()
    done, judge = ran(environment, drive, rewinds=False)
    assert done.status is Status.SCORED, done.error
    before = [] if kind is Snapshots else None
    assert judge.seen == [(before, ["c0", "c1"])]
    assert environment.opened == 1
    assert environment.still_open == 0


def test_what_was_before_has_the_contents_that_were_injected_last() -> None:
    texts = []

    async def drive(stage: Stage) -> End:
        state = await requests(stage, {"note": "FIRST"})
        end = await stage.finish(await stage.inject(state, {"note": "SECOND"}))
        texts.append((await stage.evidence(end)).pre_state.text)
        texts.append((await stage.evidence(state)).pre_state.text)
        return end

    environment = Snapshots()
    done, judge = ran(environment, drive)
    assert done.status is Status.SCORED, done.error
    assert texts == ["SECOND", "FIRST"]
    assert judge.seen == [([], ["c0", "c1"])]
    assert environment.still_open == 0


@KINDS
@pytest.mark.parametrize("rewinds", [True, False])
def test_back_after_inject_returns_a_state_that_is_open(
    kind: type[Sandboxes], rewinds: bool
) -> None:
    async def drive(stage: Stage) -> End:
        state: Any = await stage.inject(await requests(stage, {"note": "1"}), {"note": "2"})
        before = await stage.back(await stage.back(state))
        assert before.env_state.written == []
        assert before.contents == {"note": "1"}
        assert stage.latest is before, "the record shows the way that the run took"
        return await stage.finish(before)

    environment = kind()
    done, judge = ran(environment, drive, rewinds)
    assert done.status is Status.SCORED, done.error
    assert [after for _, after in judge.seen] == [["c0", "c1"]]
    assert environment.still_open == 0


@KINDS
@pytest.mark.parametrize("rewinds", [True, False])
def test_two_branches_of_a_state_live_side_by_side(kind: type[Sandboxes], rewinds: bool) -> None:
    async def drive(stage: Stage) -> End:
        one: Any = await requests(stage, {"note": "1"})
        other: Any = await stage.fork(one)
        assert other.env_state is not one.env_state
        for _ in range(3):
            one = await stage.step(one)
        for _ in range(3):
            other = await stage.step(other)
        end = await stage.finish(one)
        assert other.env_state.written == end.env_state.written == ["c0", "c1"]
        return await stage.finish(other)

    environment = kind()
    done, judge = ran(environment, drive, rewinds)
    assert done.status is Status.SCORED, done.error
    assert [after for _, after in judge.seen] == [["c0", "c1"]]
    assert environment.still_open == 0


@KINDS
@pytest.mark.parametrize("rewinds", [True, False])
def test_a_state_can_be_gone_on_from_and_judged_though_the_run_has_moved_on(
    kind: type[Sandboxes], rewinds: bool
) -> None:
    async def drive(stage: Stage) -> End:
        early: Any = await requests(stage, {"note": "1"})
        await stage.finish(early)
        assert (await stage.evidence(early)).post_state.written == ["c0"]
        assert (await stage.score(early)).attack_score == 1.0
        assert judge.seen[-1][1] == ["c0"]
        return await stage.finish(early)

    environment, judge = kind(), Judge()
    done, _ = ran(environment, drive, rewinds, judge)
    assert done.status is Status.SCORED, done.error
    assert judge.seen[-1][1] == ["c0", "c1"]
    assert environment.still_open == 0


@KINDS
def test_branches_that_were_given_up_are_freed_early(kind: type[Sandboxes]) -> None:
    most = 0

    async def drive(stage: Stage) -> End:
        nonlocal most
        state = await requests(stage, {"note": "0"})
        for number in range(20):
            branch = await stage.inject(state, {"note": str(number)})
            most = max(most, environment.still_open)
            await stage.free(branch)
            await stage.free(branch)
        end = await stage.finish(branch)
        assert end.env_state.written == ["c0", "c1"], "opened anew"
        return end

    environment = kind()
    done, _ = ran(environment, drive)
    assert done.status is Status.SCORED, done.error
    assert most <= 6
    assert len(environment.disks) > 20
    assert environment.still_open == 0


async def fails(stage: Stage) -> End:
    await stage.fork(await requests(stage, {"note": "1"}))
    raise ValueError("no more")


async def hangs(stage: Stage) -> End:
    await stage.fork(await requests(stage, {"note": "1"}))
    await asyncio.sleep(3600)
    raise AssertionError


@KINDS
@pytest.mark.parametrize("drive", [fails, hangs])
def test_all_is_freed_however_the_run_ends(
    kind: type[Sandboxes], drive: Callable[[Stage], Awaitable[End]]
) -> None:
    environment = kind()
    dataset = Mails()
    dataset.environment = environment  # type: ignore[assignment]
    given = plan(reads_twice, dataset=dataset, attack=Driver(drive))
    done = asyncio.run(execute(given, timeout=0.5))
    assert done.status is Status.ERROR
    assert len(environment.disks) >= 2
    assert environment.still_open == 0


def test_all_is_freed_though_freeing_one_fails() -> None:
    class Stubborn(Snapshots):
        @asynccontextmanager
        async def _held(self, disk: Disk) -> AsyncIterator[Disk]:
            self.disks.append(disk)
            try:
                yield disk
            finally:
                disk.freed = True
            if disk is self.disks[1]:
                raise OSError("the container does not stop")

    async def drive(stage: Stage) -> End:
        return await stage.finish(await requests(stage, {"note": "1"}))

    environment = Stubborn()
    done, _ = ran(environment, drive)
    assert done.error is not None
    assert done.error.message == "the container does not stop"
    assert environment.still_open == 0


def test_calls_that_fail_halfway_are_not_made_twice() -> None:
    """An attack that goes on after an error finds the environment as its state says."""

    class Failing(Sandboxes):
        async def call(self, state: Disk, call: ToolCall) -> ToolOutcome:
            found = await super().call(state, call)
            if call.id == "c1" and self.opened == 1:
                raise OSError("broken")
            return found

    async def drive(stage: Stage) -> End:
        state: Any = await requests(stage, {"note": "1"})
        state = await stage.step(await stage.step(state))
        with pytest.raises(OSError, match="broken"):
            await stage.step(state)
        return await stage.finish(state)

    environment = Failing()
    done, judge = ran(environment, drive, rewinds=False)
    assert done.status is Status.SCORED, done.error
    assert judge.seen[-1][1] == ["c0", "c1"]


def test_evaluators_cannot_change_a_run_that_goes_on() -> None:
    async def drive(stage: Stage) -> End:
        state: Any = await requests(stage, {"note": "1"}, count=2)
        while not isinstance(state, End):
            state = await stage.step(state)
        assert (await stage.score(state)).attack_score == 1.0
        assert state.env_state.written == ["c0", "c1"]
        return state

    environment = Snapshots()
    dataset = Mails()
    dataset.environment = environment  # type: ignore[assignment]

    def spoils(evidence: Evidence) -> float:
        evidence.post_state.written.clear()
        evidence.pre_state.written.append("x")
        return 1.0

    given = plan(reads_twice, dataset=dataset, attack=Driver(drive))
    malicious = MaliciousTask("goal", "Win.", {"wins": spoils})
    given = replace(given, context=replace(given.context, malicious=malicious))
    done = outcome(given)
    assert done.status is Status.SCORED, done.error
    assert environment.still_open == 0
