"""What a run uses in every role: its limits bind all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.usage import UsageLimits

from pytest_siren.evaluation.accounts import Price, Prices, Role
from pytest_siren.evaluation.run import RunOutcome
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.scoring import Verdict
from pytest_siren.evaluation.stage import Stage, Target
from pytest_siren.evaluation.states import End, InjectableModelRequest
from pytest_siren.evaluation.tasks import Evidence, MaliciousTask, ToolCall, ToolOutcome
from tests.unit.test_cost_runs import Source, outcome, plan, reads_twice, tokens
from tests.unit.test_stage import MailEnvironment

DOLLARS = Prices({"*:*": Price(input_mtok=Decimal(1_000), output_mtok=Decimal(10_000))})


def answers(turn: int) -> ModelResponse:
    return ModelResponse([TextPart("a text")], usage=tokens())


@dataclass
class Judge:
    judge_model: str = "judging:it"

    async def judge(self, evidence: Evidence, ask: Callable[..., Awaitable[Any]]) -> Verdict:
        await ask([ModelRequest.user_text_prompt("well?")])
        return Verdict(0.0, "no")


@dataclass
class Driver:
    drive: Callable[[Stage], Awaitable[End]]
    rewinds: bool = True

    def recording(self, model: Any) -> None:
        return None

    async def run(self, stage: Stage, target: Target) -> End:
        return await self.drive(stage)


def ran(drive: Callable[[Stage], Awaitable[End]], **changes: Any) -> RunOutcome:
    given = plan(
        reads_twice,
        attack=Driver(drive),
        attackers={"writing:it": Source(answers, id="writing:it")},
        judges={"judging:it": Source(answers, id="judging:it")},
        prices=DOLLARS,
        **changes,
    )
    malicious = MaliciousTask("goal", "Win.", {"wins": Judge()})
    return outcome(replace(given, context=replace(given.context, malicious=malicious)))


async def write(stage: Stage) -> str:
    model = await stage.open_model("writing:it")
    return str((await model_request(model, [ModelRequest.user_text_prompt("write")])).text)


async def rewinds(stage: Stage) -> End:
    state: Any = await stage.begin({"body": "x"})
    while not isinstance(state, InjectableModelRequest):
        state = await stage.step(state)
    for _ in range(50):
        ready = await stage.step(state)
        await stage.step(ready)
        state = await stage.back(ready)
    return await stage.finish(state)


async def writes(stage: Stage) -> End:
    for _ in range(50):
        await write(stage)
    return await stage.finish(await stage.begin({"body": "x"}))


async def scores(stage: Stage) -> End:
    state = await stage.finish(await stage.begin({"body": "x"}))
    for _ in range(50):
        await stage.score(state)
    return state


@pytest.mark.parametrize("drive", [rewinds, writes, scores])
@pytest.mark.parametrize(
    "limits",
    [
        UsageLimits(request_limit=4),
        UsageLimits(request_limit=None, total_tokens_limit=400),
        UsageLimits(request_limit=None, cost_limit=Decimal("0.7")),
    ],
    ids=["requests", "tokens", "cost"],
)
def test_no_role_and_no_branch_escapes_the_limits(
    drive: Callable[[Stage], Awaitable[End]], limits: UsageLimits
) -> None:
    done = ran(drive, limits=limits)
    assert done.error is not None
    assert done.error.type == "UsageLimitExceeded"
    others = (*done.attackers.values(), *done.judged.values())
    assert done.usage.requests + sum(one.usage.requests for one in others) == 4


def test_each_role_has_its_own_account() -> None:
    async def drive(stage: Stage) -> End:
        text = await write(stage)
        state = await stage.finish(await stage.begin({"body": text}))
        await stage.score(state)
        assert stage.used.requests == 3 + 1 + 1
        return state

    # The judge of the final score asks once more than the limit: no finished run is lost to it.
    done = ran(drive, limits=UsageLimits(request_limit=5))
    assert done.status is Status.SCORED, done.error
    assert done.usage.requests == 3
    assert done.cost == pytest.approx(0.6)
    assert done.attackers["writing:it"].usage.requests == 1
    assert done.attackers["writing:it"].cost == pytest.approx(0.2)
    assert done.judged["judging:it"].usage.requests == 2
    assert [one.reason for one in done.judgements] == ["no"], "of the final score only"


def test_an_attack_opens_the_models_that_it_names() -> None:
    async def drive(stage: Stage) -> End:
        await stage.open_model("other:model")
        raise AssertionError

    done = ran(drive)
    assert done.error is not None
    assert done.error.message == (
        "the attack has no model 'other:model' in its `models` ('writing:it')"
    )


def test_an_attackers_model_gives_whole_answers() -> None:
    async def drive(stage: Stage) -> End:
        model = await stage.open_model("writing:it")
        async with model.request_stream([], None, None):  # type: ignore[arg-type]
            raise AssertionError

    done = ran(drive)
    assert done.error is not None
    assert done.error.type == "NotImplementedError"


@dataclass
class Watching:
    """A ``StageObserver`` that notes how requests and calls ended."""

    noted: list[tuple[str, object, object]] = field(default_factory=list)

    async def request_before(self, *event: Any) -> None: ...

    async def request_after(
        self,
        role: Role,
        model: str,
        messages: Sequence[ModelMessage],
        response: ModelResponse | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        assert seconds >= 0
        self.noted.append((role.value, response is not None, repr(error)))

    async def call_before(self, *event: Any) -> None: ...

    async def call_after(
        self,
        call: ToolCall,
        replayed: bool,
        outcome: ToolOutcome | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        assert seconds >= 0
        self.noted.append((call.name, outcome is not None, repr(error)))

    async def state_score(self, *event: Any) -> None: ...


def test_observers_see_a_request_that_fails() -> None:
    def script(turn: int) -> ModelResponse:
        if turn:
            raise ValueError("no more")
        return reads_twice(turn)

    watching = Watching()
    done = outcome(plan(script, observers=(watching,)))
    assert done.error is not None
    assert done.error.type == "ValueError"
    assert watching.noted == [
        ("agent", True, "None"),
        ("read", True, "None"),
        ("agent", False, "ValueError('no more')"),
    ]


def test_observers_see_a_call_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> ToolOutcome:
        raise OSError("no disk")

    monkeypatch.setattr(MailEnvironment, "call", broken)
    watching = Watching()
    done = outcome(plan(observers=(watching,)))
    assert done.error is not None
    assert done.error.type == "OSError"
    assert watching.noted == [("agent", True, "None"), ("read", False, "OSError('no disk')")]
