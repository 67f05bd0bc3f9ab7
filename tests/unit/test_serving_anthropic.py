"""Anthropic's messages, asked for by Anthropic's own client."""

from __future__ import annotations

import base64
from typing import Any

import anthropic
import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryImage,
    DocumentUrl,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.usage import RequestUsage

from tests.unit.serving_sample import HELLO, Stand, stood

ASK: Any = [{"role": "user", "content": "hi"}]
PIXEL = base64.b64encode(b"\x89PNG").decode()
SCHEMA = {"type": "object", "properties": {"mail": {"type": "string"}}}
READ: Any = {"name": "read", "description": "Read it.", "input_schema": SCHEMA}
CALLS = ModelResponse(
    [ThinkingPart("hm", signature="s1", provider_name="p"), TextPart("Reading."),
     ToolCallPart("read", {"mail": "é"}, "c1"), ToolCallPart("read", '{"mail": "b"}', "c2")],
    usage=RequestUsage(input_tokens=9, output_tokens=5, cache_read_tokens=3, cache_write_tokens=1),
)  # fmt: skip


async def message(stand: Stand, **fields: Any) -> Any:
    return await stand.anthropic.messages.create(
        **{"model": "claude-any", "max_tokens": 99, "messages": ASK, **fields}
    )


def asked(**fields: Any) -> Any:
    """What reaches the model of a request with ``fields``."""

    async def test(stand: Stand) -> Any:
        await message(stand, **fields)
        return stand.last

    return stood(test)


def test_an_answer_has_its_thinking_its_text_its_calls_and_the_usage() -> None:
    found = stood(message, CALLS)
    thinking, text, first, second = found.content
    assert (thinking.thinking, thinking.signature, text.text) == ("hm", "s1", "Reading.")
    assert (first.id, first.name, first.input) == ("c1", "read", {"mail": "é"})
    assert (second.id, second.input) == ("c2", {"mail": "b"})
    assert (found.stop_reason, found.model) == ("tool_use", "scripted")
    usage = found.usage
    assert (usage.input_tokens, usage.output_tokens) == (5, 5)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 1)


@pytest.mark.parametrize(
    ("response", "reason", "text"),
    [
        (HELLO, "end_turn", ["hello"]),
        (ModelResponse([TextPart("hel")], finish_reason="length"), "max_tokens", ["hel"]),
        (ModelResponse([], finish_reason="content_filter"), "refusal", []),
        (ModelResponse([], provider_details={"refusal": "No."}), "refusal", ["No."]),
    ],
)
def test_why_an_answer_ended_is_told(response: ModelResponse, reason: str, text: list[str]) -> None:
    found = stood(message, response)
    assert (found.stop_reason, [block.text for block in found.content]) == (reason, text)


def test_arguments_that_are_no_json_are_marked() -> None:
    broken = ModelResponse([ToolCallPart("read", '{"mail": ', "c1")])
    assert stood(message, broken).content[0].input == {"INVALID_JSON": '{"mail": '}


@pytest.mark.parametrize("answer", [CALLS, HELLO, ModelResponse([])])
def test_a_stream_adds_up_to_the_answer(answer: ModelResponse) -> None:
    async def test(stand: Stand) -> tuple[Any, Any]:
        async with stand.anthropic.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
            streamed = await stream.get_final_message()
        return streamed, await message(stand)

    streamed, whole = stood(test, answer, answer)
    assert [block.model_dump(exclude={"parsed_output", "index"}) for block in streamed.content] == [
        block.model_dump() for block in whole.content]  # fmt: skip
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.input_tokens == whole.usage.input_tokens


def test_every_kind_of_block_reaches_the_model() -> None:
    near = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    image = {"type": "image", "source": near}
    found = asked(
        system=[{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
        messages=[
            {"role": "user", "content": [
                {"type": "text", "text": "Look:", "cache_control": {"type": "ephemeral"}}, image,
                {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}},
                {"type": "document", "source": {"type": "url", "url": "https://x.org/a.pdf"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain",
                                                "data": "plain"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I read."},
                {"type": "tool_use", "id": "c1", "name": "read", "input": {"mail": "a"}},
                {"type": "tool_use", "id": "c2", "name": "read", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "mail"},
                {"type": "tool_result", "tool_use_id": "c2", "is_error": True,
                 "content": [{"type": "text", "text": "broken"}]},
                {"type": "text", "text": "And?"}]},
            {"role": "assistant", "content": "Done."},
            {"role": "user", "content": "Bye."},
        ],
    )  # fmt: skip
    kinds = [type(one) for one in found.messages]
    assert kinds == [ModelRequest, ModelResponse, ModelRequest, ModelResponse, ModelRequest]
    kind, brief, user = found.messages[0].parts
    assert (kind.content, brief.content) == ("Be kind.", "Be brief.")
    text, pixel, far, document, plain = user.content
    assert (text, plain) == ("Look:", "plain")
    assert pixel == BinaryImage(b"\x89PNG", media_type="image/png")
    assert (far, document) == (ImageUrl("https://x.org/a.png"), DocumentUrl("https://x.org/a.pdf"))
    assert found.messages[1].parts == [
        TextPart("I read."), ToolCallPart("read", {"mail": "a"}, "c1"),
        ToolCallPart("read", {}, "c2")]  # fmt: skip
    one, other, question = found.messages[2].parts
    assert (one.tool_name, one.content, one.outcome) == ("read", "mail", "success")
    assert (other.content, other.outcome, question.content) == ("broken", "failed", "And?")
    assert found.messages[3].text == "Done."


def test_settings_and_tools_reach_the_model() -> None:
    found = asked(
        stop_sequences=["x"], tools=[READ], thinking={"type": "enabled", "budget_tokens": 2000},
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        # The client of this version has no arguments for these.
        extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 5},
    )  # fmt: skip
    assert found.settings == {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 99, "stop_sequences": ["x"],
        "tool_choice": "required", "parallel_tool_calls": False, "thinking": True,
    }  # fmt: skip
    [tool] = found.parameters.function_tools
    assert (tool.name, tool.description) == ("read", "Read it.")
    assert tool.parameters_json_schema == READ["input_schema"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", "auto"), ("none", "none"), ("any", "required"), ("tool", ["read"])],
)
def test_a_choice_of_tools_reaches_the_model(choice: str, expected: Any) -> None:
    named = {"name": "read"} if choice == "tool" else {}
    found = asked(tools=[READ], tool_choice={"type": choice, **named})
    assert found.settings["tool_choice"] == expected


def test_a_wanted_schema_reaches_the_model() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    found = asked(output_config=wanted)
    assert found.parameters.output_mode == "native"
    assert found.parameters.output_object.json_schema == schema
    assert found.settings["thinking"] == "low"


def test_an_answer_comes_back_to_the_model_as_it_gave_it() -> None:
    async def test(stand: Stand) -> Any:
        first = await message(stand, tools=[READ])
        results = [{"type": "tool_result", "tool_use_id": c, "content": "x"} for c in ("c1", "c2")]
        turns = [*ASK, {"role": "assistant", "content": first.content},
                 {"role": "user", "content": results}]  # fmt: skip
        await message(stand, messages=turns)
        return stand.last.messages

    assert stood(test, CALLS, HELLO)[1] is CALLS


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0."),
        ({"extra_body": {"mcp_servers": [{"url": "x"}]}},
         "mcp_servers: the agent calls MCP servers itself"),
        ({"messages": []}, "the conversation is empty"),
        ({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c9", "content": "x"}]}]},
         "a result answers the call 'c9', for which no answer before it asks"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "'hologram'"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(fields: Any, text: str) -> None:
    async def test(stand: Stand) -> anthropic.APIStatusError:
        with pytest.raises(anthropic.BadRequestError) as error:
            await message(stand, **fields)
        assert not stand.model.asked
        return error.value

    error: Any = stood(test)
    assert text in error.message
    assert error.body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.InternalServerError),
        (422, "invalid_request_error", anthropic.UnprocessableEntityError),
    ],
)
def test_an_error_of_the_model_keeps_its_status_and_is_not_retried(
    status: int, kind: str, raised: type[Exception]
) -> None:
    async def test(stand: Stand) -> tuple[Any, int]:
        with pytest.raises(raised) as error:
            await message(stand)
        return error.value, len(stand.model.asked)

    found, tries = stood(test, ModelHTTPError(status, "claude", "sorry"))
    assert (found.body["error"]["type"], tries) == (kind, 1)


def test_a_request_after_the_end_of_the_run_is_refused_and_counted() -> None:
    async def test(stand: Stand) -> tuple[Any, int]:
        await stand.world.close()
        with pytest.raises(anthropic.NotFoundError) as error:
            await message(stand)
        return error.value, stand.world.late

    found, late = stood(test)
    assert (found.body["error"]["type"], late) == ("not_found_error", 1)
    assert "the run has ended" in found.message
