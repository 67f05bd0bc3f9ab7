"""Limits hold for all that a run has used, and say so where nobody can tell what that is."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.usage import RequestUsage, UsageLimits

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.evaluation.accounts import Price, Prices
from pytest_siren.evaluation.models import ModelKind, RunContext, Unknown
from pytest_siren.evaluation.scores import Status
from pytest_siren.evaluation.stage import Attack, Stage, Target
from pytest_siren.evaluation.states import End, InjectableModelRequest
from pytest_siren.session.config.option_groups import limit_reached
from pytest_siren.sharing.state import Board, Gauge, SharedSpend
from tests.unit.test_cost_runs import outcome, plan


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.open(tmp_path / "board")
    yield board
    board.close()


class NeverEnough(Attack):
    """Goes back to where its content shows, again and again."""

    rewinds = True

    async def run(self, stage: Stage, target: Target) -> End:
        state: Any = await stage.begin({"body": "x"})
        while not isinstance(state, InjectableModelRequest):
            state = await stage.step(state)
        for turn in range(60):
            after = await stage.step(
                await stage.step(await stage.inject(state, {"body": str(turn)}))
            )
            await stage.back(await stage.back(after))
        raise AssertionError("nobody stopped it")

    def recording(self, model: Any) -> str | None:
        return None


@pytest.mark.parametrize(
    "limits",
    [
        UsageLimits(request_limit=3),
        UsageLimits(request_limit=None, total_tokens_limit=330),
        UsageLimits(request_limit=None, input_tokens_limit=300),
        UsageLimits(request_limit=None, output_tokens_limit=30),
        UsageLimits(request_limit=None, cost_limit=Decimal("0.6")),
    ],
)
def test_an_attack_that_goes_back_is_bounded_by_all_that_it_has_used(limits: UsageLimits) -> None:
    done = outcome(plan(attack=NeverEnough(), limits=limits))
    assert done.error is not None
    assert done.error.type == "UsageLimitExceeded"
    assert 3 <= done.usage.requests <= 4


class Asker(PlainAgent):
    """An agent that looks at no limit."""

    async def step(self, state: Any, stage: Stage) -> Any:
        while True:
            await stage.ask([], None, ModelRequestParameters())


@pytest.mark.parametrize(
    "limits", [UsageLimits(request_limit=3), UsageLimits(total_tokens_limit=300)]
)
def test_so_is_every_agent_that_asks_through_the_stage(limits: UsageLimits) -> None:
    done = outcome(plan(agent=Asker(PlainAgentConfig()), limits=limits))
    assert done.error is not None
    assert done.error.type == "UsageLimitExceeded"
    assert done.usage.requests == 3


def silent(turn: int) -> ModelResponse:
    usage = RequestUsage(input_tokens=50, unmeasured_requests=1)
    return ModelResponse([TextPart("done")], usage=usage)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"total_tokens_limit": 1_000}, "UsageUnknownError"),
        ({"per_request_input_tokens_limit": 1_000}, "UsageUnknownError"),
        ({"cost_limit": Decimal(9)}, "CostUnknownError"),
        ({"total_tokens_limit": 10}, "UsageLimitExceeded"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_limit_that_cannot_be_kept_ends_the_run(limits: dict[str, Any], error: str) -> None:
    done = outcome(plan(silent, limits=UsageLimits(**limits)))
    assert done.error is not None
    assert done.error.type == error
    if error != "UsageLimitExceeded":
        assert "the usage of an answer of 'scripted:mail' is missing" in done.error.message
    assert outcome(plan(silent, limits=UsageLimits(request_limit=5))).status is Status.SCORED


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (RequestUsage(input_tokens=50, unmeasured_requests=1), "the usage of an answer of"),
        (RequestUsage(input_tokens=50, web_searches=2), "no price is known for an answer of"),
    ],
)
def test_a_session_whose_cost_nobody_knows_starts_nothing_more(
    usage: RequestUsage, reason: str, board: Board
) -> None:
    prices = Prices({"scripted:mail": Price(input_mtok=Decimal(1), output_mtok=Decimal(1))})
    assert limit_reached(board, Decimal(3)) is None
    done = outcome(
        plan(
            lambda turn: ModelResponse([TextPart("done")], usage=usage),
            prices=prices,
            spend=SharedSpend(board),
        )
    )
    assert (done.status, done.cost) == (Status.SCORED, None)
    stopped = limit_reached(board, Decimal(3))
    assert stopped is not None
    assert stopped.startswith(f"--siren-max-cost 3 cannot be kept: {reason} 'scripted:mail'")
    assert limit_reached(board, None) is None
    assert board[Gauge.UNPRICED] == 1


class Failing(WrapperModel):
    """A model whose failed requests are billed."""

    def take_billed(self) -> list[ModelResponse]:
        return [ModelResponse([], usage=RequestUsage(input_tokens=100, output_tokens=10))]

    async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise RuntimeError("no choices")


class Bills:
    id = label = "scripted:mail"
    kind = ModelKind.MODEL
    spoken_name = "Scripted"

    async def bind(self, run: RunContext) -> Model:
        return Failing(FunctionModel(lambda messages, info: ModelResponse([])))

    def unknown(self, run: RunContext) -> Unknown:
        return Unknown()


def test_what_a_failed_request_is_billed_is_counted(board: Board) -> None:
    done = outcome(plan(model=Bills(), spend=SharedSpend(board)))
    assert done.status is Status.ERROR
    assert (done.usage.input_tokens, done.usage.output_tokens) == (100, 10)
    assert done.cost == pytest.approx(0.2)
    assert board[Gauge.COST] == pytest.approx(0.2)


def test_the_first_reason_stands_and_long_ones_are_cut(board: Board) -> None:
    board.unpriced("é" * 5_000)
    board.unpriced("another")
    assert board.why_unpriced is not None
    assert set(board.why_unpriced) == {"é"}
    assert len(board.why_unpriced.encode()) < 512
