"""What a run used is counted, priced and limited, however the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage, UsageLimits

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.evaluation.accounts import Price, Prices, Spend
from pytest_siren.evaluation.models import ModelKind, RunContext, Unknown
from pytest_siren.evaluation.run import RunOutcome, RunPlan, execute
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.stage import Attack, Stage, Target
from pytest_siren.evaluation.states import End, EndReason, InjectableModelRequest
from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask
from pytest_siren.sharing.state import Board, Gauge, SharedSpend
from tests.unit.test_stage import MailEnvironment

TASK = BenignTask("mail", "Read my mail.", {"utility": lambda evidence: 1.0})
GOAL = MaliciousTask("goal", "Say yes.", {"security": lambda evidence: 0.0})
PRICES = Prices({"scripted:mail": Price(input_mtok=Decimal(1_000), output_mtok=Decimal(10_000))})
EACH = 0.2
"""US dollars: 100 input and 10 output tokens."""

Script = Callable[[int], ModelResponse]


def tokens() -> RequestUsage:
    return RequestUsage(input_tokens=100, output_tokens=10)


def reads_twice(turn: int) -> ModelResponse:
    if turn < 2:
        return ModelResponse([ToolCallPart("read", {}, f"c{turn}")], usage=tokens())
    return ModelResponse([TextPart("done")], usage=tokens())


@dataclass
class Source:
    script: Script
    id: str = "scripted:mail"
    label: str = "mail"
    kind: ModelKind = ModelKind.MODEL
    spoken_name: str = "Scripted"

    async def bind(self, run: RunContext) -> Model:
        def reply(messages: list[Any], info: Any) -> ModelResponse:
            return self.script(sum(isinstance(each, ModelResponse) for each in messages))

        return FunctionModel(reply)

    def unknown(self, run: RunContext) -> Unknown:
        return Unknown()


class Mails:
    name, suite, user_name, sources, couples = "mails", None, None, (), ()

    def __init__(self) -> None:
        self.environment = MailEnvironment()


def plan(script: Script = reads_twice, **changes: Any) -> RunPlan:
    malicious = GOAL if "attack" in changes else None
    context = RunContext("mails", None, "mail", TASK, malicious, None, 0)
    values: dict[str, Any] = {
        "context": context,
        "dataset": Mails(),
        "agent": PlainAgent(PlainAgentConfig()),
        "attack": None,
        "model": Source(script),
        "limits": UsageLimits(),
        "prices": PRICES,
    }
    return RunPlan(**{**values, **changes})


def outcome(given: RunPlan) -> RunOutcome:
    return asyncio.run(execute(given))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board.open(tmp_path / "board")


def test_all_answers_of_a_run_are_counted_and_priced() -> None:
    done = outcome(plan())
    assert done.status is Status.SCORED, done.error
    assert done.cost == pytest.approx(3 * EACH)
    assert done.usage.cost == Decimal("0.6")
    assert (done.usage.requests, done.usage.tool_calls) == (3, 2)
    assert (done.usage.input_tokens, done.usage.output_tokens) == (300, 30)
    answers = [each for each in done.messages if isinstance(each, ModelResponse)]
    assert [each.usage.cost for each in answers] == [Decimal("0.2")] * 3


def test_the_session_learns_of_every_answer_at_once(board: Board) -> None:
    seen: list[tuple[float, ...]] = []
    gauges = (Gauge.INPUT_TOKENS, Gauge.OUTPUT_TOKENS, Gauge.COST, Gauge.UNPRICED)

    def script(turn: int) -> ModelResponse:
        seen.append(tuple(round(board.total(gauge), 6) for gauge in gauges))
        return reads_twice(turn)

    outcome(plan(script, spend=SharedSpend(board)))
    assert seen == [(0, 0, 0, 0), (100, 10, 0.2, 0), (200, 20, 0.4, 0)]
    outcome(plan(spend=SharedSpend(board), prices=Prices()))
    assert board[Gauge.INPUT_TOKENS] == 600
    assert board[Gauge.UNPRICED] == 3
    assert board[Gauge.COST] == pytest.approx(0.6)


def test_passing_the_limit_ends_the_run_as_an_error_whose_record_has_the_answer() -> None:
    done = outcome(plan(limits=UsageLimits(cost_limit=Decimal("0.3"))))
    assert done.status is Status.ERROR
    assert done.error is not None
    assert done.error.type == "UsageLimitExceeded"
    assert "`cost_limit` of 0.3 (`usage.cost`=Decimal('0.4" in done.error.message
    assert done.cost == pytest.approx(2 * EACH)
    assert done.usage.requests == 2
    assert isinstance(done.messages[-1], ModelResponse)


def test_a_run_may_cost_exactly_its_limit() -> None:
    done = outcome(plan(limits=UsageLimits(cost_limit=Decimal("0.6"))))
    assert done.status is Status.SCORED


def test_the_answers_before_an_error_count() -> None:
    def script(turn: int) -> ModelResponse:
        if turn == 2:
            raise RuntimeError("on fire")
        return reads_twice(turn)

    done = outcome(plan(script))
    assert done.error is not None
    assert done.error.message == "on fire"
    assert (done.usage.requests, done.usage.input_tokens) == (2, 200)
    assert done.cost == pytest.approx(2 * EACH)


def test_the_answers_before_a_cancellation_count() -> None:
    async def cancelled() -> RunOutcome:
        task: asyncio.Task[RunOutcome]

        def script(turn: int) -> ModelResponse:
            if turn == 1:
                task.cancel()
            return reads_twice(turn)

        task = asyncio.create_task(execute(plan(script)))
        return await task

    done = asyncio.run(cancelled())
    assert done.status is Status.CANCELLED
    assert done.usage.requests >= 1
    assert done.usage.input_tokens == 100 * done.usage.requests
    assert done.cost == pytest.approx(done.usage.requests * EACH)


def test_a_run_that_ended_before_it_asked_anything_cost_nothing() -> None:
    class Unreachable(Source):
        async def bind(self, run: RunContext) -> Model:
            raise ValueError("no key")

    done = outcome(plan(model=Unreachable(reads_twice), prices=Prices()))
    assert done.status is Status.ERROR
    assert done.cost == 0
    assert done.usage.input_tokens == 0


class TriesTwice(Attack):
    """Goes back once the model has answered, and plants something else."""

    rewinds = True

    async def run(self, stage: Stage, target: Target) -> End:
        state: Any = await stage.begin({"body": "first"})
        tries = 0
        while not isinstance(state, End):
            state = await stage.step(state)
            if isinstance(state, InjectableModelRequest) and not tries:
                tries += 1
                await stage.step(await stage.step(state))
                state = await stage.inject(state, {"body": "second"})
        return state

    def recording(self, model: Any) -> str | None:
        return None


def test_answers_that_an_attack_went_back_from_were_paid_for_too() -> None:
    done = outcome(plan(attack=TriesTwice()))
    assert done.status is Status.SCORED, done.error
    assert sum(isinstance(each, ModelResponse) for each in done.messages) == 3
    assert done.usage.requests == 4
    assert done.cost == pytest.approx(4 * EACH)
    limited = outcome(plan(attack=TriesTwice(), limits=UsageLimits(cost_limit=Decimal("0.6"))))
    assert limited.status is Status.ERROR


class ImpatientAgent(PlainAgent):
    """An agent of someone's own, which asks the model without the stage, and only once."""

    async def step(self, state: Any, stage: Stage) -> Any:
        request = self.user_request(stage, state.env_state)
        parameters = ModelRequestParameters()
        response = await stage.model.request([request], None, parameters)
        return End(
            messages=(request, response),
            usage=state.usage + response.usage,
            contents=state.contents,
            executed=(),
            env_state=state.env_state,
            previous=state,
            reason=EndReason.ANSWERED,
        )


def test_an_agent_that_asks_without_the_stage_is_counted_too(board: Board) -> None:
    agent = ImpatientAgent(PlainAgentConfig())
    done = outcome(plan(agent=agent, spend=SharedSpend(board)))
    assert done.cost == pytest.approx(EACH)
    assert done.usage.requests == 1
    assert board[Gauge.INPUT_TOKENS] == 100
    dear = outcome(plan(agent=agent, limits=UsageLimits(cost_limit=Decimal("0.1"))))
    assert dear.error is not None
    assert dear.error.type == "UsageLimitExceeded"


def test_an_agent_that_goes_on_asking_is_stopped_at_the_next_question() -> None:
    class Stubborn(ImpatientAgent):
        async def step(self, state: Any, stage: Stage) -> Any:
            while True:
                await stage.ask([], None, ModelRequestParameters())

    agent = Stubborn(PlainAgentConfig())
    done = outcome(plan(agent=agent, limits=UsageLimits(cost_limit=Decimal("0.3"))))
    assert done.error is not None
    assert done.error.type == "UsageLimitExceeded"
    assert done.usage.requests == 2


def test_a_cost_that_nobody_knows_is_none_and_ends_a_run_with_a_limit() -> None:
    unlimited = outcome(plan(prices=Prices()))
    assert unlimited.status is Status.SCORED
    assert (unlimited.cost, unlimited.unpriced) == (None, 3)
    limited = outcome(plan(prices=Prices(), limits=UsageLimits(cost_limit=Decimal(9))))
    assert limited.error is not None
    assert limited.error.type == "CostUnknownError"
    assert limited.error.message == (
        "usage_limits.cost is 9, but no price is known for an answer of 'scripted:mail', "
        "so the cost of the run is unknown"
    )
    assert limited.usage.requests == 1


def test_one_answer_without_a_price_makes_the_cost_of_the_run_unknown() -> None:
    def script(turn: int) -> ModelResponse:
        given = reads_twice(turn)
        if turn == 1:
            given.usage = RequestUsage(unmeasured_requests=1)
        return given

    done = outcome(plan(script))
    assert (done.cost, done.unpriced) == (None, 1)
    assert done.usage.cost == Decimal("0.4")


def test_without_prices_the_costs_that_the_model_reports_count() -> None:
    def script(turn: int) -> ModelResponse:
        usage = RequestUsage(input_tokens=1, cost=Decimal("0.125"))
        return ModelResponse([TextPart("done")], usage=usage)

    spent: list[Decimal | None] = []

    class Ledger:
        def add(
            self, input_tokens: int, output_tokens: int, cost: Decimal | None, unknown: str = ""
        ) -> None:
            spent.append(cost)

    ledger: Spend = Ledger()
    assert outcome(plan(script, prices=None, spend=ledger)).cost == 0.125
    assert spent == [Decimal("0.125")]
