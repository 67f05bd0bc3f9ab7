"""Whole conversations through the endpoint and back, by way of the vendors' own clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    BinaryImage,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from tests.unit.serving_sample import Stand, standing

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
SAID = WORDS.filter(str.strip)
ARGS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | WORDS | st.lists(WORDS),
    max_size=3,
)
TOOLS = ("read", "send")


@st.composite
def answers(draw: st.DrawFn, turn: int) -> ModelResponse:
    calls = draw(st.lists(st.tuples(st.sampled_from(TOOLS), ARGS), max_size=3))
    parts: list[Any] = [ToolCallPart(name, args, f"call_{turn}_{index}")
                        for index, (name, args) in enumerate(calls)]  # fmt: skip
    if not calls or draw(st.booleans()):
        parts.insert(0, TextPart(draw(SAID)))
    return ModelResponse(parts)


@st.composite
def conversations(draw: st.DrawFn) -> list[ModelMessage]:
    """A system prompt, then turns: what the user says or the tools return, and an answer."""
    image = BinaryImage(b"\x89PNG", media_type="image/png")
    pictured = st.tuples(SAID, st.just(image)).map(list)
    parts: list[ModelRequestPart] = [UserPromptPart(draw(SAID | pictured))]
    if draw(st.booleans()):
        parts.insert(0, SystemPromptPart(draw(SAID)))
    messages: list[ModelMessage] = [ModelRequest(parts)]
    for turn in range(draw(st.integers(0, 3))):
        answer = draw(answers(turn))
        results: list[ModelRequestPart] = [
            ToolReturnPart(part.tool_name, draw(SAID), part.tool_call_id)
            for part in answer.parts
            if isinstance(part, ToolCallPart)
        ]
        messages += [answer, ModelRequest(results or [UserPromptPart(draw(SAID))])]
    return messages


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def stand(runner: asyncio.Runner) -> Iterator[Stand]:
    stack = AsyncExitStack()
    yield runner.run(stack.enter_async_context(standing()))
    runner.run(stack.aclose())


CLIENTS = {
    "chat": lambda on: OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=on.openai)),
    "responses": lambda on: OpenAIResponsesModel(
        "gpt-4o", provider=OpenAIProvider(openai_client=on.openai)
    ),
    "anthropic": lambda on: AnthropicModel(
        "claude-any", provider=AnthropicProvider(anthropic_client=on.anthropic)
    ),
}


def said(messages: list[ModelMessage]) -> list[list[tuple[Any, ...]]]:
    return [[_said(part) for part in message.parts] for message in messages]


def _said(part: Any) -> tuple[Any, ...]:
    match part:
        case ToolCallPart():
            return "call", part.tool_name, part.args_as_dict(), part.tool_call_id
        case ToolReturnPart():
            return "result", part.tool_name, part.content, part.tool_call_id
    return part.part_kind, part.content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", CLIENTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(messages=conversations(), answer=answers(9))
def test_a_conversation_and_its_answer_arrive_as_they_were_sent(
    client: str,
    stream: bool,
    runner: asyncio.Runner,
    stand: Stand,
    messages: list[ModelMessage],
    answer: ModelResponse,
) -> None:
    stand.model.answers = [answer]
    tools = [ToolDefinition(name=name) for name in TOOLS]
    parameters = ModelRequestParameters(function_tools=tools)
    asking: Model[Any] = CLIENTS[client](stand)

    async def ask() -> ModelResponse:
        if not stream:
            return await asking.request(list(messages), None, parameters)
        async with asking.request_stream(list(messages), None, parameters) as streamed:
            async for _ in streamed:
                pass
            return streamed.get()

    found = runner.run(ask())
    assert said(stand.last.messages) == said(messages)
    assert said([found]) == said([answer])
    assert [tool.name for tool in stand.last.parameters.function_tools] == list(TOOLS)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_agent_of_a_framework_works_on_the_endpoint(
    client: str, runner: asyncio.Runner, stand: Stand
) -> None:
    from pydantic_ai import Agent

    stand.model.answers = [
        ModelResponse([ToolCallPart("read", {"mail": "a"}, "c1")]), ModelResponse([TextPart("b")])
    ]  # fmt: skip
    agent = Agent(CLIENTS[client](stand), instructions="You read mail.")

    @agent.tool_plain
    def read(mail: str) -> str:
        return f"mail {mail}"

    assert runner.run(agent.run("Read.")).output == "b"
    assert said(stand.last.messages)[1:] == [
        [("call", "read", {"mail": "a"}, "c1")], [("result", "read", "mail a", "c1")]]  # fmt: skip
