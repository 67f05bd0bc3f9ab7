from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.test import TestModel as PydanticTestModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from pytest_siren.models.limits.tools import (
    RememberedTools,
    remember_tools,
    send_as_given,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Find",
    "properties": {"text": {"type": "string", "title": "Text", "default": "x"}},
}
TOOLS = [ToolDefinition(name=f"find_{n}", parameters_json_schema=SCHEMA) for n in range(3)]


def model() -> Model:
    return OpenAIChatModel("gpt-4o", provider=OpenAIProvider(api_key="key"))


def test_what_is_remembered_is_what_the_model_would_say() -> None:
    plain, remembering = model(), model()
    remember_tools(remembering)
    assert isinstance(remembering.customize_request_parameters, RememberedTools)
    for tools in (TOOLS, TOOLS[:2], TOOLS[::-1], TOOLS, []):
        parameters = ModelRequestParameters(function_tools=list(tools))
        expected = plain.customize_request_parameters(parameters)
        for _ in range(2):
            assert remembering.customize_request_parameters(parameters) == expected


def test_the_same_tools_are_adapted_once_and_others_anew() -> None:
    adapted: list[int] = []

    def customize(parameters: ModelRequestParameters) -> ModelRequestParameters:
        adapted.append(len(parameters.function_tools))
        return parameters

    remembered = RememberedTools(customize)
    for _ in range(3):
        remembered(ModelRequestParameters(function_tools=list(TOOLS)))
    assert adapted == [3]
    remembered(ModelRequestParameters(function_tools=[replace(TOOLS[0]), *TOOLS[1:]]))
    assert adapted == [3, 3]
    with_output = ModelRequestParameters(function_tools=list(TOOLS), output_tools=TOOLS[:1])
    for _ in range(2):
        remembered(with_output)
    assert adapted == [3, 3, 3, 3]


def test_a_model_with_ways_of_its_own_is_left_alone() -> None:
    class Own(PydanticTestModel):
        def customize_request_parameters(
            self, model_request_parameters: ModelRequestParameters
        ) -> ModelRequestParameters:
            return model_request_parameters

    own = Own()
    remember_tools(own)
    assert not isinstance(own.customize_request_parameters, RememberedTools)


TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {
            "type": "object",
            "properties": {"at": {"type": "string", "description": "what"}},
            "required": ["at"],
        },
        "strict": False,
    },
}


CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}, IMAGE], "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "nothing"},
]


@pytest.mark.parametrize("tools", [[TOOL, TOOL], [], None, [{"type": "custom", "custom": {}}]])
@pytest.mark.parametrize("extra", [None, {"top_k": 3}])
def test_openai_sends_the_same_when_it_goes_through_nothing(
    tools: list[dict[str, object]] | None, extra: dict[str, object] | None
) -> None:
    plain = asyncio.run(sent(tools, extra, changed=False))
    assert asyncio.run(sent(tools, extra, changed=True)) == plain
    assert ["tools" in body for body in plain] == [tools is not None] * 2
    assert plain[0]["messages"] == MESSAGES


async def sent(tools: Any, extra: Any, *, changed: bool) -> list[dict[str, Any]]:
    """Return the bodies of a request to either of OpenAI's endpoints."""
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return httpx2.Response(400, json={"error": {"message": "enough"}})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        client = openai.AsyncOpenAI(api_key="k", max_retries=0, http_client=http)
        if changed:
            provider = OpenAIProvider(openai_client=client)
            send_as_given(OpenAIChatModel("m", provider=provider))
            send_as_given(OpenAIResponsesModel("m", provider=provider))
        given = {"tools": openai.omit if tools is None else tools, "extra_body": extra}
        messages: Any = MESSAGES
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(
                model="m", messages=messages, stream=False, **given
            )
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(model="m", input="hi", stream=False, **given)
    return bodies


def test_azure_s_address_has_the_model_in_it() -> None:
    paths: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.path)
        return httpx2.Response(400, json={"error": {"message": "enough"}})

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
            client = openai.AsyncAzureOpenAI(
                api_key="k",
                api_version="2025-01-01",
                azure_endpoint="https://azure.invalid",
                max_retries=0,
                http_client=http,
            )
            send_as_given(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)))
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(model="m", messages=[], stream=False)

    asyncio.run(run())
    assert paths == ["/openai/deployments/m/chat/completions"]


def test_clients_of_other_libraries_are_left_alone() -> None:
    send_as_given(PydanticTestModel())
