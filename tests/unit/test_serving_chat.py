"""OpenAI's chat completions, asked for by OpenAI's own client."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.messages import (
    BinaryContent,
    BinaryImage,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.settings import ToolOrOutput
from pydantic_ai.usage import RequestUsage, UsageLimits

from pytest_siren.evaluation.models import STOP_AFTER
from tests.unit.serving_sample import HELLO, Stand, stood

ASK: Any = [{"role": "user", "content": "hi"}]
PIXEL = base64.b64encode(b"\x89PNG").decode()
READ: Any = {"type": "function", "function": {
    "name": "read", "description": "Read it.", "parameters": {"type": "object", "properties": {
        "mail": {"type": "string"}}}, "strict": True}}  # fmt: skip
CALLS = ModelResponse(
    [ThinkingPart("hm", signature="s1", provider_name="p"), TextPart("Reading."),
     ToolCallPart("read", {"mail": "é"}, "c1"), ToolCallPart("read", '{"mail": "b"}', "c2")],
    usage=RequestUsage(input_tokens=7, output_tokens=5, cache_read_tokens=3,
                       output_reasoning_tokens=2),
)  # fmt: skip


async def chat(stand: Stand, **fields: Any) -> Any:
    return await stand.openai.chat.completions.create(
        **{"model": "gpt-any", "messages": ASK, **fields}
    )


def asked(**fields: Any) -> Any:
    """What reaches the model of a request with ``fields``."""

    async def test(stand: Stand) -> Any:
        await chat(stand, **fields)
        return stand.last

    return stood(test)


def refused(**fields: Any) -> openai.APIStatusError:
    async def test(stand: Stand) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as error:
            await chat(stand, **fields)
        assert not stand.model.asked
        return error.value

    return stood(test)


def test_an_answer_has_the_text_the_usage_and_the_name_of_the_model() -> None:
    hello = ModelResponse([TextPart("hello")], usage=RequestUsage(input_tokens=2, output_tokens=1))
    found = stood(chat, hello)
    assert found.choices[0].message.content == "hello"
    assert found.choices[0].finish_reason == "stop"
    assert (found.object, found.model) == ("chat.completion", "scripted")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (2, 1)
    assert found.usage.total_tokens == 3


def test_calls_have_their_ids_and_their_arguments_as_json() -> None:
    found = stood(chat, CALLS)
    message = found.choices[0].message
    assert message.content == "Reading."
    assert [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls] \
        == [("c1", "read", '{"mail": "é"}'), ("c2", "read", '{"mail": "b"}')]  # fmt: skip
    assert found.choices[0].finish_reason == "tool_calls"
    assert found.usage.prompt_tokens_details.cached_tokens == 3
    assert found.usage.completion_tokens_details.reasoning_tokens == 2


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (ModelResponse([TextPart("hel")], finish_reason="length"), "length"),
        (ModelResponse([], finish_reason="content_filter"), "content_filter"),
        (ModelResponse([TextPart("no")], finish_reason="stop"), "stop"),
    ],
)
def test_why_an_answer_ended_is_told(response: ModelResponse, reason: str) -> None:
    assert stood(chat, response).choices[0].finish_reason == reason


def test_a_refusal_is_told_in_its_own_field() -> None:
    refusal = ModelResponse([], provider_details={"refusal": "I will not."})
    message = stood(chat, refusal).choices[0].message
    assert (message.content, message.refusal) == (None, "I will not.")


def test_arguments_that_are_no_json_are_passed_on_as_they_are() -> None:
    broken = ModelResponse([ToolCallPart("read", '{"mail": ', "c1")])
    call = stood(chat, broken).choices[0].message.tool_calls[0]
    assert call.function.arguments == '{"mail": '


def test_calls_that_are_not_to_be_executed_are_not_given_to_the_agent() -> None:
    last = ModelResponse([TextPart("bye"), ToolCallPart("read", {}, "c1")],
                         metadata={STOP_AFTER: "recorded so"})  # fmt: skip
    choice = stood(chat, last).choices[0]
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_adds_up_to_the_answer(usage: bool) -> None:
    async def test(stand: Stand) -> tuple[Any, list[Any]]:
        async with stand.openai.chat.completions.stream(
            model="m", messages=ASK, stream_options={"include_usage": usage}
        ) as stream:
            events = [event async for event in stream]
            return await stream.get_final_completion(), events

    found, events = stood(test, CALLS)
    message = found.choices[0].message
    assert message.content == "Reading."
    assert [(call.id, call.function.arguments) for call in message.tool_calls] == [
        ("c1", '{"mail": "é"}'), ("c2", '{"mail": "b"}')]  # fmt: skip
    assert found.choices[0].finish_reason == "tool_calls"
    assert (found.usage.total_tokens if usage else found.usage) == (12 if usage else None)
    assert len({event.chunk.id for event in events if event.type == "chunk"}) == 1


def test_every_kind_of_message_reaches_the_model() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    far = {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}}
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    found = asked(messages=[
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, image, far]},
        {"role": "assistant", "content": "I read.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "mail"}]},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ])  # fmt: skip
    kinds = [type(message) for message in found.messages]
    assert kinds == [ModelRequest, ModelResponse, ModelRequest, ModelResponse, ModelRequest]
    system, developer, user = found.messages[0].parts
    assert isinstance(system, SystemPromptPart)
    assert (system.content, developer.content) == ("Be kind.", "Be brief.")
    text, near, remote = user.content
    assert (text, near) == ("Look:", BinaryImage(b"\x89PNG", media_type="image/png"))
    assert isinstance(remote, ImageUrl)
    assert (remote.url, remote.vendor_metadata) == ("https://x.org/a.png", {"detail": "low"})
    assert found.messages[1].parts == [TextPart("I read."), ToolCallPart("read", "{}", "c1")]
    result, question = found.messages[2].parts
    assert isinstance(result, ToolReturnPart)
    assert (result.tool_name, result.content, result.tool_call_id) == ("read", "mail", "c1")
    assert (question.content, found.messages[3].text) == ("And?", "No.")
    assert found.messages[4].parts[0].content == "Why?"


def test_sound_and_files_reach_the_model() -> None:
    data = base64.b64encode(b"abc").decode()
    found = asked(messages=[{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}"}},
    ]}])  # fmt: skip
    sound, file = found.messages[0].parts[0].content
    assert sound == BinaryContent(b"abc", media_type="audio/wav")
    assert file == BinaryContent(b"abc", media_type="application/pdf")


def test_settings_and_tools_reach_the_model() -> None:
    found = asked(
        temperature=0.5, top_p=0.9, max_completion_tokens=9, stop="x", seed=3,
        presence_penalty=0.1, frequency_penalty=0.2, logit_bias={"5": 1}, parallel_tool_calls=False,
        reasoning_effort="low", tools=[READ], tool_choice="required",
    )  # fmt: skip
    assert found.settings == {
        "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "stop_sequences": ["x"], "seed": 3,
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "logit_bias": {"5": 1},
        "parallel_tool_calls": False, "thinking": "low", "tool_choice": "required",
    }  # fmt: skip
    [tool] = found.parameters.function_tools
    assert (tool.name, tool.description, tool.strict) == ("read", "Read it.", True)
    assert tool.parameters_json_schema == READ["function"]["parameters"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ({"type": "function", "function": {"name": "read"}}, ["read"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
                {"type": "function", "function": {"name": "read"}}]}},
            ToolOrOutput(["read"]),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
                {"type": "function", "function": {"name": "read"}}]}},
            ["read"],
        ),
    ],
)  # fmt: skip
def test_a_choice_of_tools_reaches_the_model(choice: Any, expected: Any) -> None:
    assert asked(tools=[READ], tool_choice=choice).settings["tool_choice"] == expected


class Weather(BaseModel):
    city: str
    degrees: int


def test_a_wanted_schema_reaches_the_model_and_its_answer_is_parsed() -> None:
    async def test(stand: Stand) -> Any:
        found = await stand.openai.chat.completions.parse(
            model="m", messages=ASK, response_format=Weather
        )
        return found.choices[0].message.parsed, stand.last.parameters

    parsed, parameters = stood(test, ModelResponse([TextPart('{"city": "Bonn", "degrees": 9}')]))
    assert parsed == Weather(city="Bonn", degrees=9)
    assert parameters.output_mode == "native"
    assert parameters.output_object.name == "Weather"
    assert set(parameters.output_object.json_schema["properties"]) == {"city", "degrees"}
    assert parameters.output_object.strict is True


def test_any_json_may_be_wanted() -> None:
    parameters = asked(response_format={"type": "json_object"}).parameters
    assert (parameters.output_mode, parameters.output_object) == ("prompted", None)
    assert asked(response_format={"type": "text"}).parameters.output_mode == "text"


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"n": 2}, "n: there is one answer, not 2", "n"),
        ({"logprobs": True}, "logprobs: log probabilities are not recorded", "logprobs"),
        ({"functions": [{"name": "f"}]}, "functions: use tools instead", "functions"),
        ({"function_call": "auto"}, "function_call: use tool_choice instead", "function_call"),
        ({"modalities": ["audio"], "audio": {"voice": "alloy", "format": "wav"}},
         "audio: the model answers in text only", "audio"),
        ({"messages": []}, "the conversation is empty", None),
        ({"messages": [{"role": "user"}]}, "messages.0.user.content: Field required",
         "messages.0.user.content"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "'judge'", "messages.0"),
        ({"messages": [{"role": "tool", "tool_call_id": "c9", "content": "x"}]},
         "a result answers the call 'c9', for which no answer before it asks", None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
            "url": "data:image/png,x"}}]}]}, "a data URI cannot be read", None),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
         "a file needs file_data: no files are stored here", None),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type", "tools.0.type"),
        ({"temperature": "warm"}, "temperature: ", "temperature"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(fields: Any, message: str, param: str | None) -> None:
    error = refused(**fields)
    assert isinstance(error, openai.BadRequestError)
    assert message in error.message
    assert error.param == param


def test_fields_that_change_no_answer_are_ignored() -> None:
    assert asked(user="me", metadata={"a": "b"}, store=True, service_tier="auto").settings is None


def test_an_answer_comes_back_to_the_model_as_it_gave_it() -> None:
    async def test(stand: Stand) -> Any:
        first = (await chat(stand, tools=[READ])).choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": "mail"}
                   for call in first.tool_calls]  # fmt: skip
        await chat(stand, messages=[*ASK, first, *results], tools=[READ])
        return stand.model.asked

    first, second = stood(test, CALLS, HELLO)
    assert second.messages[1] is CALLS
    assert second.messages[0].parts == first.messages[0].parts


def test_tools_are_the_same_objects_from_request_to_request_and_those_of_the_run() -> None:
    own: Any = {"type": "function", "function": {"name": "read", "parameters": {
        "type": "object", "properties": {}}}}  # fmt: skip
    other: Any = {"type": "function", "function": {"name": "search"}}

    async def test(stand: Stand) -> Any:
        for description in (None, None, "Search."):
            other["function"]["description"] = description
            await chat(stand, tools=[own, other])
        return stand.world.tools, [one.parameters.function_tools for one in stand.model.asked]

    (read, _), (first, second, third) = stood(test)
    assert all(tools[0] is read for tools in (first, second, third))
    assert second[1] is first[1]
    assert (first[1].description, third[1].description) == (None, "Search.")


def test_an_answer_that_the_agent_changed_is_what_the_agent_sends() -> None:
    async def test(stand: Stand) -> Any:
        first = (await chat(stand)).choices[0].message.model_dump(exclude_none=True)
        first["tool_calls"][0]["function"]["arguments"] = '{"mail": "other"}'
        results = [{"role": "tool", "tool_call_id": c, "content": "mail"} for c in ("c1", "c2")]
        await chat(stand, messages=[*ASK, first, *results])
        return stand.last

    response = stood(test, CALLS, HELLO).messages[1]
    assert response.parts[1].args == '{"mail": "other"}'


def failure(error: BaseException, **options: Any) -> tuple[openai.APIStatusError, int]:
    async def test(stand: Stand) -> tuple[openai.APIStatusError, int]:
        with pytest.raises(openai.APIStatusError) as found:
            await chat(stand)
        return found.value, len(stand.model.asked)

    return stood(test, error, **options)


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (ModelHTTPError(429, "gpt", {"message": "slow down"}), 429, "model_error", "slow down"),
        (ModelHTTPError(400, "gpt", "too long"), 400, "model_error", "too long"),
        (ValueError("the wire broke"), 500, "model_error", "ValueError: the wire broke"),
        (UsageLimitExceeded("no more"), 403, "run_limit", "no more"),
    ],
)
def test_an_error_of_the_model_keeps_its_status_and_is_not_retried(
    error: BaseException, status: int, code: str, message: str
) -> None:
    found, tries = failure(error)
    assert (found.status_code, found.code) == (status, code)
    assert message in found.message
    assert tries == 1


def test_a_limit_of_the_run_refuses_further_requests() -> None:
    async def test(stand: Stand) -> openai.APIStatusError:
        await chat(stand)
        with pytest.raises(openai.PermissionDeniedError) as found:
            await chat(stand)
        return found.value

    found = stood(test, limits=UsageLimits(request_limit=1))
    assert found.code == "run_limit"
    assert "request_limit" in found.message


def test_a_request_after_the_end_of_the_run_is_refused_and_counted() -> None:
    async def test(stand: Stand) -> tuple[openai.APIStatusError, int]:
        await stand.world.close()
        with pytest.raises(openai.NotFoundError) as found:
            await chat(stand)
        return found.value, stand.world.late

    found, late = stood(test)
    assert (found.code, late) == ("run_over", 1)
    assert "the run has ended" in found.message


def test_the_models_are_one_whatever_it_is_called() -> None:
    async def test(stand: Stand) -> Any:
        listed = [model.id async for model in await stand.openai.models.list()]
        return listed, (await stand.openai.models.retrieve("gpt-any")).id

    assert stood(test) == (["scripted"], "scripted")


def test_what_is_not_served_is_named() -> None:
    async def test(stand: Stand) -> openai.APIStatusError:
        with pytest.raises(openai.NotFoundError) as found:
            await stand.openai.embeddings.create(model="m", input="x")
        return found.value

    assert "nothing is served at POST 'v1/embeddings', only: mcp," in stood(test).message


def test_user_prompts_are_of_one_request() -> None:
    found = asked(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    [request] = found.messages
    assert [part.content for part in request.parts if isinstance(part, UserPromptPart)] == [
        "a",
        "b",
    ]
