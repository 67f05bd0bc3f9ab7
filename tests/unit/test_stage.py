"""The agent's states: forwards, backwards, and with other contents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage, UsageLimits

from pytest_siren.agents.plain import PlainAgent, PlainAgentConfig
from pytest_siren.evaluation.stage import Stage
from pytest_siren.evaluation.states import (
    End,
    EndReason,
    InitialRequest,
    InjectableModelRequest,
    ModelRequestReady,
    ModelResponseReceived,
)
from pytest_siren.evaluation.tasks import BenignTask, Prompt, ToolCall, ToolOutcome

T = TypeVar("T")
TASK = BenignTask("read-mail", "Read my mail.", {}, system_prompt="You read mail.")


def run(awaitable: Awaitable[T]) -> T:
    return asyncio.run(awaitable)  # type: ignore[arg-type]


@dataclass
class Mailbox:
    body: str
    planted: bool
    sent: list[str] = field(default_factory=list)


class MailEnvironment:
    """One e-mail with a vector in it; reading it also marks it as sent on, a side effect."""

    vectors: Mapping[str, str] = {"body": "nothing new"}

    def tools(self, task: BenignTask) -> list[ToolDefinition]:
        return [ToolDefinition(name="read"), ToolDefinition(name="send")]

    def __init__(self) -> None:
        self.opened = 0

    @asynccontextmanager
    async def open(self, task: BenignTask, contents: Mapping[str, str]) -> AsyncIterator[Mailbox]:
        self.opened += 1
        yield Mailbox(contents.get("body", self.vectors["body"]), "body" in contents)

    def prompt(self, state: Mailbox, task: BenignTask) -> Prompt:
        return Prompt(task.prompt)

    async def call(self, state: Mailbox, call: ToolCall) -> ToolOutcome:
        if call.name == "send":
            state.sent.append(str(call.args["text"]))
            return ToolOutcome("sent")
        if call.name != "read":
            return ToolOutcome(f"no tool {call.name}", error=True)
        vectors = frozenset({"body"}) if state.planted else frozenset()
        return ToolOutcome(f"mail: {state.body}", vectors=vectors)


class CopyableMailEnvironment(MailEnvironment):
    def copy(self, state: Mailbox) -> Mailbox:
        return deepcopy(state)


def obedient(messages: list[Any], info: Any) -> ModelResponse:
    """Send a note, read the mail, then repeat what the mail said."""
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    if turn == 0:
        return ModelResponse([ToolCallPart("send", {"text": "hello"}, "c0")])
    if turn == 1:
        return ModelResponse([ToolCallPart("read", {}, "c1")])
    return ModelResponse([TextPart(messages[-1].parts[-1].content)])


def stage(environment: MailEnvironment, *, rewinds: bool = True, limits: UsageLimits | None = None,
          model: Any = obedient) -> Stage:  # fmt: skip
    return Stage(
        agent=PlainAgent(PlainAgentConfig()),
        environment=environment,
        task=TASK,
        model=FunctionModel(model),
        limits=limits or UsageLimits(request_limit=None),
        rewinds=rewinds,
    )


async def states_of(on: Stage, contents: Mapping[str, str]) -> list[Any]:
    seen: list[Any] = [await on.begin(contents)]
    while not isinstance(seen[-1], End):
        seen.append(await on.step(seen[-1]))
    return seen


def test_a_run_passes_through_the_states_in_their_order() -> None:
    states = run(states_of(stage(MailEnvironment()), {"body": "EVIL"}))
    assert [type(state) for state in states] == [
        InitialRequest,
        ModelRequestReady,
        ModelResponseReceived,
        ModelRequestReady,
        ModelResponseReceived,
        InjectableModelRequest,
        ModelRequestReady,
        ModelResponseReceived,
        End,
    ]
    assert states[5].vectors == {"body"}
    assert states[-1].reason is EndReason.ANSWERED
    assert states[-1].messages[-1].text == "mail: EVIL"
    assert (states[-1].usage.requests, states[-1].usage.tool_calls) == (3, 2)


def test_a_default_content_makes_no_request_injectable() -> None:
    states = run(states_of(stage(MailEnvironment()), {}))
    assert not any(isinstance(state, InjectableModelRequest) for state in states)


@pytest.mark.parametrize("environment", [MailEnvironment, CopyableMailEnvironment])
def test_going_back_restores_the_environment(environment: type[MailEnvironment]) -> None:
    async def go() -> tuple[Any, list[str], Any]:
        on = stage(environment())
        state: Any = await on.begin({"body": "EVIL"})
        while not isinstance(state, InjectableModelRequest):
            state = await on.step(state)
        before = await on.back(await on.back(await on.back(state)))
        return before, list(before.env_state.sent), await on.finish(before)

    before, sent, end = run(go())
    assert isinstance(before, ModelResponseReceived)
    assert sent == []
    assert end.env_state.sent == ["hello"], "the call was made again, on the restored environment"
    assert len(end.messages) == 6


def test_a_copyable_environment_is_opened_once() -> None:
    environment = CopyableMailEnvironment()

    async def go() -> None:
        on = stage(environment)
        states = await states_of(on, {"body": "EVIL"})
        await on.back(states[5])

    run(go())
    assert environment.opened == 1


@pytest.mark.parametrize("environment", [MailEnvironment, CopyableMailEnvironment])
def test_injecting_other_contents_replays_the_calls_with_them(
    environment: type[MailEnvironment],
) -> None:
    async def go() -> Any:
        on = stage(environment())
        state: Any = await on.begin({"body": "FIRST TRY"})
        while not isinstance(state, InjectableModelRequest):
            state = await on.step(state)
        return await on.finish(await on.inject(state, {"body": "SECOND TRY"}))

    end = run(go())
    assert end.messages[-1].text == "mail: SECOND TRY"
    assert end.contents == {"body": "SECOND TRY"}
    assert end.env_state.sent == ["hello"]
    assert end.env_state.body == "SECOND TRY"


def test_there_is_nothing_before_the_first_state_nor_after_the_last() -> None:
    async def go() -> None:
        on = stage(MailEnvironment())
        first = await on.begin({})
        with pytest.raises(ValueError, match="no state before the first"):
            await on.back(first)
        with pytest.raises(ValueError, match="already ended"):
            await on.step(await on.finish(first))

    run(go())


def test_planting_into_an_unknown_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="no such injection vector: footer"):
        run(stage(MailEnvironment()).begin({"footer": "x"}))


def test_undecodable_arguments_reach_the_model_as_an_error_and_are_not_executed() -> None:
    def broken(messages: list[Any], info: Any) -> ModelResponse:
        if any(isinstance(message, ModelResponse) for message in messages):
            return ModelResponse([TextPart("done")])
        return ModelResponse(
            [ToolCallPart("send", "{oops", "c0"), ToolCallPart("send", '["x"]', "c1")]
        )

    end: Any = run(states_of(stage(MailEnvironment(), model=broken), {}))[-1]
    results = [part for part in end.messages[2].parts if isinstance(part, ToolReturnPart)]
    assert [part.outcome for part in results] == ["failed", "failed"]
    assert "not valid JSON" in results[0].content
    assert "must be a JSON object, not list" in results[1].content
    assert end.env_state.sent == []


def test_the_request_limit_ends_the_run_and_keeps_what_was_said() -> None:
    on = stage(MailEnvironment(), limits=UsageLimits(request_limit=1))
    with pytest.raises(UsageLimitExceeded, match="request_limit of 1"):
        run(states_of(on, {}))
    assert [message.kind for message in on.messages()] == ["request", "response", "request"]


def test_a_response_over_the_token_limit_is_kept_in_the_record() -> None:
    on = stage(MailEnvironment(), limits=UsageLimits(request_limit=None, output_tokens_limit=0))
    with pytest.raises(UsageLimitExceeded, match="output_tokens_limit"):
        run(states_of(on, {}))
    assert on.messages()[-1].kind == "response"


class CountingModel(FunctionModel):
    """Knows beforehand how many tokens a request has, as some providers' APIs do."""

    async def count_tokens(self, messages: Any, model_settings: Any, parameters: Any) -> Any:
        return RequestUsage(input_tokens=100 * len(messages))


@pytest.mark.parametrize(
    ("limits", "message", "requests"),
    [
        (
            UsageLimits(input_tokens_limit=150, count_tokens_before_request=True),
            "would exceed the input_tokens_limit of 150",
            1,
        ),
        (
            UsageLimits(per_request_input_tokens_limit=250, count_tokens_before_request=True),
            "per_request_input_tokens_limit of 250",
            1,
        ),
        (UsageLimits(per_request_input_tokens_limit=5), "per_request_input_tokens_limit of 5", 1),
    ],
    ids=["counted total", "counted request", "reported request"],
)
def test_limits_on_input_tokens(limits: UsageLimits, message: str, requests: int) -> None:
    on = stage(MailEnvironment(), limits=limits)
    on.model = CountingModel(obedient)
    with pytest.raises(UsageLimitExceeded, match=message):
        run(states_of(on, {}))
    assert sum(said.kind == "response" for said in on.messages()) == requests
