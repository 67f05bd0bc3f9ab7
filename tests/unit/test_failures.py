"""Whatever the code of a run raises, wherever it does, is the run's error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.evaluation.isolation import UserInterrupt, message_of, one_line
from pytest_siren.evaluation.run import RunOutcome, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.stage import StaticAttack
from pytest_siren.evaluation.tasks import BenignTask
from tests.unit.failures_sample import FAILURES, MuteError
from tests.unit.inline_sample import said, score
from tests.unit.test_cost_runs import Mails, Source, plan, reads_twice
from tests.unit.test_stage import MailEnvironment

Fail = Callable[[], object]


def outcome(**changes: Any) -> RunOutcome:
    return asyncio.run(execute(plan(**changes)))


def dataset(environment: MailEnvironment) -> Mails:
    mails = Mails()
    mails.environment = environment
    return mails


def in_model(fail: Fail) -> RunOutcome:
    def script(turn: int) -> ModelResponse:
        fail()
        return reads_twice(turn)

    return outcome(script=script)


def in_binding(fail: Fail) -> RunOutcome:
    class Unbound(Source):
        async def bind(self, run: Any) -> Any:
            fail()

    return outcome(model=Unbound(reads_twice))


def in_agent(fail: Fail) -> RunOutcome:
    class Agent(PlainAgent):
        async def step(self, state: Any, stage: Any) -> Any:
            fail()

    return outcome(agent=Agent(PlainAgentConfig()))


def in_attack(fail: Fail) -> RunOutcome:
    class Planter(StaticAttack):
        def contents(self, target: Any) -> Any:
            fail()

    return outcome(attack=Planter())


def in_opening(fail: Fail) -> RunOutcome:
    class Closed(MailEnvironment):
        @asynccontextmanager
        async def open(self, task: Any, contents: Any) -> AsyncIterator[Any]:
            fail()
            yield None

    return outcome(dataset=dataset(Closed()))


def in_closing(fail: Fail) -> RunOutcome:
    class Stuck(MailEnvironment):
        @asynccontextmanager
        async def open(self, task: Any, contents: Any) -> AsyncIterator[Any]:
            async with super().open(task, contents) as state:
                yield state
            fail()

    return outcome(dataset=dataset(Stuck()))


def in_environment_tool(fail: Fail) -> RunOutcome:
    class Broken(MailEnvironment):
        async def call(self, state: Any, call: Any) -> Any:
            fail()

    return outcome(dataset=dataset(Broken()))


def in_evaluator(fail: Fail) -> RunOutcome:
    return outcome_of_evaluator(lambda evidence: fail())


def in_async_evaluator(fail: Fail) -> RunOutcome:
    async def judge(evidence: Any) -> float:
        fail()
        return 1.0

    return outcome_of_evaluator(judge)


def outcome_of_evaluator(evaluator: Any) -> RunOutcome:
    given = plan()
    task = BenignTask("mail", "Read my mail.", {"utility": evaluator})
    object.__setattr__(given.context, "benign", task)
    return asyncio.run(execute(given))


PLACES = (
    in_model,
    in_binding,
    in_agent,
    in_attack,
    in_opening,
    in_closing,
    in_environment_tool,
    in_evaluator,
    in_async_evaluator,
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("name", FAILURES)
def test_every_exception_is_the_runs_error(place: Callable[[Fail], RunOutcome], name: str) -> None:
    done = place(FAILURES[name])
    assert done.status is Status.ERROR
    assert done.error is not None
    assert done.error.type == name
    assert (done.benign, done.attack) == (None, None)


def test_only_a_persons_ctrl_c_ends_the_session() -> None:
    def interrupt() -> None:
        raise UserInterrupt

    with pytest.raises(UserInterrupt):
        in_evaluator(interrupt)


def test_a_run_that_cancels_its_own_task_is_an_error() -> None:
    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def judge(evidence: Any) -> float:
        cancel()
        await asyncio.sleep(5)
        return 1.0

    done = outcome_of_evaluator(judge)
    assert done.status is Status.ERROR
    assert done.error is not None
    assert "the session was not stopped" in done.error.message


def test_a_run_that_ends_while_its_task_is_being_cancelled_is_scored() -> None:
    async def judge(evidence: Any) -> float:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return 1.0

    done = outcome_of_evaluator(judge)
    assert (done.status, done.benign_score) == (Status.SCORED, 1.0)


@pytest.mark.parametrize("name", FAILURES)
def test_a_python_evaluator_lets_every_exception_out_of_its_thread(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "checks_of_failures.py").write_text(
        "from tests.unit.failures_sample import FAILURES\n"
        "def judge(evidence, how):\n    FAILURES[how]()\n"
    )
    config = {"type": "python", "path": "checks_of_failures:judge", "config": {"how": name}}
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the class is the question
        score(config, said("yes"), tmp_path)
    assert type(caught.value).__name__ == name


def test_the_text_of_an_exception_is_one_bounded_line() -> None:
    assert one_line(RuntimeError("a\nb")) == "RuntimeError: a b"
    assert one_line(SystemExit()) == "SystemExit"
    assert message_of(MuteError()) == "<its text cannot be read: OddError>"
    assert len(message_of(ValueError("x" * 1_000_000))) < 2_100
