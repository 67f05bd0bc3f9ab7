"""OpenAI's client without rewriting: what it sends is what ``AsyncOpenAI`` sends."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import typing
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any, Literal

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import NOT_GIVEN, AsyncOpenAI, omit
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming as ChatParams,
)
from openai.types.responses import Response
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming as ResponsesParams,
)
from pydantic import BaseModel
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters, get_user_agent, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from pytest_siren.models.transport.client import opened
from pytest_siren.models.transport.openai_client import PlainDataClient
from tests.endings import chat, responses

Ask = Callable[[AsyncOpenAI], Awaitable[Any]]

PROMPT = {"role": "user", "content": 'When is lunch? 🥪 \u2028 "soon"'}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
TOOL = {"type": "function", "function": {"name": "lunch", "parameters": SCHEMA, "strict": True}}
CALL = {"id": "c1", "type": "function", "function": {"name": "lunch", "arguments": '{"at": "1"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "lunch", "schema": SCHEMA}}

CHAT_SETTINGS: dict[str, Any] = {
    "frequency_penalty": 0.5,
    "logit_bias": {"17": -100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "max_tokens": None,
    "metadata": {"of": "whom"},
    "moderation": {"model": "omni"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "at noon"},
    "presence_penalty": -1e-7,
    "prompt_cache_key": "key",
    "reasoning_effort": "low",
    "response_format": FORMAT,
    "seed": 1,
    "service_tier": "flex",
    "stop": ["a", "b"],
    "store": False,
    "stream": False,
    "temperature": 1e16,
    "tool_choice": {"type": "function", "function": {"name": "lunch"}},
    "tools": [TOOL, TOOL],
    "top_logprobs": 3,
    "top_p": 0.1,
    "user": "me",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
    "extra_body": {"top_k": 5, "user": "another"},
    "extra_headers": {"X-One": "1", "User-Agent": "mine"},
    "extra_query": {"version": "2"},
    "timeout": 7.5,
}

CHAT = chat("stop", {"content": "At noon."})
RESPONSE = responses("completed", {"type": "output_text", "text": "At noon.", "annotations": []})

PLAIN_CHATS: dict[str, dict[str, Any]] = {
    "one message": {},
    "every setting": CHAT_SETTINGS,
    "nothing given": dict.fromkeys(CHAT_SETTINGS.keys() - {"extra_body", "extra_query"}, omit)
    | {"timeout": NOT_GIVEN, "extra_headers": None},
    "a conversation": {
        "messages": [
            {"role": "system", "content": "You are a cook."},
            {"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        ],
        "tools": [TOOL],
    },
    "messages omitted": {"messages": omit},
    "messages in a tuple": {"messages": (PROMPT,)},
    "properties that OpenAI does not know": {"messages": [{**PROMPT, "cache": {"for": [1, None]}}]},
    "a property taken back": {"user": "me", "extra_body": {"user": omit, "temperature": None}},
    "no timeout": {"timeout": None},
    "timeouts for each part": {"timeout": httpx2.Timeout(3.0, connect=1.0)},
    "a header taken back": {"extra_headers": {"X-Stainless-Lang": omit}},
    "an object as format": {"response_format": {"type": "json_object"}},
}

OTHER_CHATS: dict[str, Callable[[], dict[str, Any]]] = {
    "an iterator": lambda: {"messages": iter([PROMPT])},
    "an answer of OpenAI's": lambda: {
        "messages": [PROMPT, ChatCompletionMessage(role="assistant", content="At noon.")]
    },
    "something omitted within": lambda: {"messages": [{**PROMPT, "name": omit}]},
    "a date": lambda: {"metadata": {"on": datetime(2026, 1, 2)}},
    "an unknown argument": lambda: {"top_k": 5},
    "no number": lambda: {"temperature": math.nan},
    "half a character": lambda: {"messages": [{"role": "user", "content": "\ud83e"}]},
    "a class as format": lambda: {"response_format": Lunch},
    "a body that is none": lambda: {"extra_body": ["top_k"]},
    "no key that is text": lambda: {"metadata": {(1, 2): "a"}},
}

RESPONSES: dict[str, dict[str, Any]] = {
    "text": {},
    "nothing given": {"instructions": omit, "temperature": NOT_GIVEN, "timeout": NOT_GIVEN},
    "items": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "What?"}]},
            {"type": "function_call", "call_id": "c1", "name": "lunch", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "noon"},
        ],
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "lunch", "parameters": SCHEMA, "strict": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "text": {"format": {"type": "json_schema", "name": "lunch", "schema": SCHEMA}},
        "service_tier": "flex",
        "stream": False,
        "store": False,
        "truncation": "auto",
        "user": omit,
        "extra_body": {"top_k": 5},
        "extra_headers": {"X-One": "1"},
        "timeout": 3,
    },
}


class Lunch(BaseModel):
    at: str


class Noting(PlainDataClient):
    """Notes how bodies are posted."""

    posted: list[str]

    async def post(self, path: str, **arguments: Any) -> Any:
        self.posted.append("content" if arguments.get("content") is not None else "body")
        return await super().post(path, **arguments)


def sent(ask: Ask, answer: dict[str, Any], plain: bool) -> tuple[Any, list[Any], list[str]]:
    """Return the answer or the error, the requests, and how a plain client posted them."""
    requests: list[Any] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        timeout = request.extensions["timeout"]
        requests.append(
            (request.method, str(request.url), request.headers.raw, request.content, timeout)
        )
        return httpx2.Response(200, json=answer)

    async def run() -> tuple[Any, list[Any], list[str]]:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(reply)) as http_client:
            client = AsyncOpenAI(
                api_key="a key",
                organization="ours",
                base_url="http://api.test/v1",
                timeout=5.0,
                max_retries=0,
                default_headers={"X-Title": "lunch"},
                default_query={"of": "all"},
                http_client=http_client,
            )
            noting = Noting.like(client, http_client)
            assert isinstance(noting, Noting)
            noting.posted = []
            try:
                outcome = await ask(noting if plain else client)
            except (TypeError, ValueError) as error:
                outcome = (type(error), str(error))
            return outcome, requests, noting.posted

    return asyncio.run(run())


def asking_chat(arguments: dict[str, Any]) -> Ask:
    return lambda client: client.chat.completions.create(
        **{"model": "m", "messages": [PROMPT], **arguments}
    )


def compare(make: Callable[[], Ask], answer: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the outcome, which is the same of both clients, and how the plain one posted."""
    theirs, their_requests, _ = sent(make(), answer, plain=False)
    ours, our_requests, posted = sent(make(), answer, plain=True)
    assert our_requests == their_requests
    assert ours == theirs
    return ours, posted


@pytest.mark.parametrize("shape", PLAIN_CHATS)
def test_chats_of_plain_data_are_sent_alike_without_being_rewritten(shape: str) -> None:
    outcome, posted = compare(lambda: asking_chat(PLAIN_CHATS[shape]), CHAT)
    assert isinstance(outcome, ChatCompletion)
    assert posted == ["content"]


@given(st.permutations(list(CHAT_SETTINGS)), st.integers(0, len(CHAT_SETTINGS)))
@settings(max_examples=50, deadline=None)
def test_settings_in_any_number_and_order_are_sent_alike(names: list[str], number: int) -> None:
    arguments = {name: CHAT_SETTINGS[name] for name in names[:number]}
    _, posted = compare(lambda: asking_chat(arguments), CHAT)
    assert posted == ["content"]


@pytest.mark.parametrize("shape", OTHER_CHATS)
def test_whatever_else_a_chat_holds_is_left_to_openai(shape: str) -> None:
    _, posted = compare(lambda: asking_chat(OTHER_CHATS[shape]()), CHAT)
    assert "content" not in posted


def test_a_chat_without_messages_is_refused_as_openai_does() -> None:
    outcome, posted = compare(
        lambda: lambda client: client.chat.completions.create(model="m"), CHAT
    )
    assert outcome[0] is TypeError
    assert "messages" in outcome[1]
    assert not posted


@pytest.mark.parametrize("shape", RESPONSES)
def test_requests_for_responses_are_sent_alike_without_being_rewritten(shape: str) -> None:
    def asking() -> Ask:
        arguments = {"model": "m", "input": "When is lunch?", **RESPONSES[shape]}
        return lambda client: client.responses.create(**arguments)

    outcome, posted = compare(asking, RESPONSE)
    assert isinstance(outcome, Response)
    assert posted == ["content"]


def test_streams_and_parsed_answers_are_left_to_openai() -> None:
    arguments: Any = {"model": "m", "messages": [PROMPT]}

    async def streamed(client: AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(**arguments, stream=True)
        return type(stream).__name__

    async def parsed(client: AsyncOpenAI) -> Any:
        answer = await client.chat.completions.parse(**arguments, response_format=Lunch)
        return answer.choices[0].message.parsed

    assert compare(lambda: streamed, CHAT) == ("AsyncStream", ["body"])
    answer = chat("stop", {"content": '{"at": "noon"}'})
    assert compare(lambda: parsed, answer) == (Lunch(at="noon"), ["body"])


def test_a_raw_response_is_openais() -> None:
    async def raw(client: AsyncOpenAI) -> tuple[Any, bytes]:
        create: Any = client.chat.completions.with_raw_response.create
        answer = await create(model="m", messages=[PROMPT])
        return answer.parse(), answer.content

    outcome, _ = compare(lambda: raw, CHAT)
    assert isinstance(outcome[0], ChatCompletion)


def test_a_copy_of_the_client_is_such_a_client_too() -> None:
    client = AsyncOpenAI(api_key="a key", base_url="http://api.test/v1")
    copy = PlainDataClient.like(client, httpx2.AsyncClient()).with_options(max_retries=3)
    assert type(copy) is PlainDataClient
    assert copy.max_retries == 3


@pytest.mark.parametrize("parameters", [ChatParams, ResponsesParams])
def test_openai_renames_and_formats_no_parameter(parameters: type) -> None:
    """What a rewriting of plain data would change; else it must not be passed over."""
    changed = [
        note
        for note in annotations_in(parameters, set())
        if getattr(note, "alias", None) or getattr(note, "format", None)
    ]
    assert not changed


def annotations_in(kind: Any, seen: set[Any]) -> Iterator[Any]:
    """Yield what the ``Annotated`` types within ``kind`` are annotated with."""
    if kind in seen:
        return
    seen.add(kind)
    yield from getattr(kind, "__metadata__", ())
    parts = list(typing.get_args(kind)) if typing.get_origin(kind) is not Literal else []
    if typing.is_typeddict(kind):
        parts += typing.get_type_hints(kind, include_extras=True).values()
    for part in parts:
        if not isinstance(part, list):
            yield from annotations_in(part, seen)


TOOLS = [ToolDefinition(name="lunch", description="When?", parameters_json_schema=SCHEMA)]
CONVERSATION: list[ModelMessage] = [
    ModelRequest(
        [
            SystemPromptPart("You are a cook."),
            UserPromptPart(["What is this?", BinaryContent(b"\x89PNG", media_type="image/png")]),
        ]
    ),
    ModelResponse([TextPart("Let me see."), ToolCallPart("lunch", {"at": "1"}, "c1")]),
    ModelRequest([ToolReturnPart("lunch", {"noon": [1, 2.5, None]}, "c1")]),
]
ASKED: dict[str, tuple[ModelSettings | None, ModelRequestParameters]] = {
    "text": (None, ModelRequestParameters()),
    "tools": (
        {
            "temperature": 0.0,
            "max_tokens": 50,
            "parallel_tool_calls": True,
        },
        ModelRequestParameters(function_tools=TOOLS),
    ),
    "an object": (
        {"timeout": 3.0, "extra_headers": {"X-One": "1"}, "extra_body": {"top_k": 5}},
        ModelRequestParameters(
            output_mode="native",
            output_object=OutputObjectDefinition(json_schema=SCHEMA, name="lunch"),
            allow_text_output=False,
        ),
    ),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("api", ["openai-chat", "openai"])
def test_what_pydantic_ai_asks_is_sent_as_bare_pydantic_ai_sends_it(
    api: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://api.test/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "ours")
    requests: list[Any] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        requests.append((str(request.url), request.headers.raw, request.content))
        return httpx2.Response(200, json=CHAT if api == "openai-chat" else RESPONSE)

    async def ask() -> None:
        transport = httpx2.MockTransport(reply)
        async with opened(f"{api}:gpt-4o", transport) as (model, _):
            assert isinstance(getattr(model, "client", None), PlainDataClient)
            await model.request(CONVERSATION, *ASKED[asked])
        bare_client = httpx2.AsyncClient(
            transport=transport,
            timeout=httpx2.Timeout(600.0, connect=30.0),
            headers={"User-Agent": get_user_agent()},
        )
        async with bare_client:
            provider = OpenAIProvider(http_client=bare_client)
            model = infer_model(f"{api}:gpt-4o", lambda _: provider)
            await model.request(CONVERSATION, *ASKED[asked])

    asyncio.run(ask())
    ours, bare = requests
    assert ours == bare


def test_warming_up_imports_what_chats_need_and_no_more() -> None:
    code = (
        "import sys; from pytest_siren.models.api import api_model;"
        "api_model('openai-chat:gpt-4o').warm(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "openai.resources.chat.completions.completions" in loaded
    assert "openai.resources.responses.responses" not in loaded
