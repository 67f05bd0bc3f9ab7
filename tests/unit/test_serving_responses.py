"""OpenAI's responses, asked for by OpenAI's own client."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai.messages import (
    BinaryImage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.settings import ToolOrOutput
from pydantic_ai.usage import RequestUsage

from tests.unit.serving_sample import HELLO, Stand, stood

PIXEL = base64.b64encode(b"\x89PNG").decode()
SCHEMA = {"type": "object", "properties": {"mail": {"type": "string"}}}
READ: Any = {"type": "function", "name": "read", "description": "Read it.", "strict": True,
             "parameters": SCHEMA}  # fmt: skip
CALLS = ModelResponse(
    [ThinkingPart("hm", signature="s1", provider_name="p"), TextPart("Reading."),
     ToolCallPart("read", {"mail": "é"}, "c1"), ToolCallPart("read", '{"mail": "b"}', "c2")],
    usage=RequestUsage(input_tokens=7, output_tokens=5, cache_read_tokens=3),
)  # fmt: skip
CUT_OFF = ModelResponse([TextPart("x")], finish_reason="length")
REFUSAL = ModelResponse([], provider_details={"refusal": "No."})


async def respond(stand: Stand, **fields: Any) -> Any:
    return await stand.openai.responses.create(**{"model": "gpt-any", "input": "hi", **fields})


def asked(**fields: Any) -> Any:
    """What reaches the model of a request with ``fields``."""

    async def test(stand: Stand) -> Any:
        await respond(stand, **fields)
        return stand.last

    return stood(test)


def refused(**fields: Any) -> openai.APIStatusError:
    async def test(stand: Stand) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as error:
            await respond(stand, **fields)
        assert not stand.model.asked
        return error.value

    return stood(test)


def test_an_answer_has_its_thinking_its_text_its_calls_and_the_usage() -> None:
    found = stood(respond, CALLS)
    assert [item.type for item in found.output] == [
        "reasoning", "message", "function_call", "function_call"]  # fmt: skip
    assert found.output[0].summary[0].text == "hm"
    assert found.output_text == "Reading."
    assert [(call.call_id, call.name, call.arguments) for call in found.output[2:]] == [
        ("c1", "read", '{"mail": "é"}'), ("c2", "read", '{"mail": "b"}')]  # fmt: skip
    assert (found.status, found.model) == ("completed", "scripted")
    assert (found.usage.input_tokens, found.usage.total_tokens) == (7, 12)
    assert found.usage.input_tokens_details.cached_tokens == 3


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (ModelResponse([TextPart("hel")], finish_reason="length"), "max_output_tokens"),
        (ModelResponse([], finish_reason="content_filter"), "content_filter"),
    ],
)
def test_an_answer_that_was_cut_off_is_incomplete(response: ModelResponse, reason: str) -> None:
    found = stood(respond, response)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", reason)


def test_a_refusal_is_told_as_one() -> None:
    found = stood(respond, ModelResponse([], provider_details={"refusal": "No."}))
    assert [(part.type, part.refusal) for part in found.output[0].content] == [("refusal", "No.")]


@pytest.mark.parametrize("answer", [CALLS, HELLO, CUT_OFF, REFUSAL])
def test_a_stream_adds_up_to_the_answer(answer: ModelResponse) -> None:
    async def test(stand: Stand) -> tuple[Any, list[Any], Any]:
        async with stand.openai.responses.stream(model="m", input="hi", tools=[READ]) as stream:
            events = [event async for event in stream]
        # Its helper for the final response knows no incomplete ones.
        return events[-1].response, events, await respond(stand)

    streamed, events, whole = stood(test, answer, answer)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kept = {"type", "content", "arguments", "call_id", "name", "summary", "status"}
    assert [_of(one, kept) for one in streamed.output] == [_of(one, kept) for one in whole.output]
    assert streamed.status == whole.status
    assert streamed.usage.total_tokens == answer.usage.total_tokens


def _of(item: Any, kept: set[str]) -> dict[str, Any]:
    return _without_parsed(item.model_dump(include=kept))


def _without_parsed(data: dict[str, Any]) -> dict[str, Any]:
    for part in data.get("content") or ():
        part.pop("parsed", None)
        part.pop("logprobs", None)
    return data


def test_every_kind_of_item_reaches_the_model() -> None:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}
    file = {"type": "input_file", "file_data": f"data:application/pdf;base64,{PIXEL}"}
    found = asked(instructions="Be kind.", input=[
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user",
         "content": [{"type": "input_text", "text": "Look:"}, image, file]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "id": "m", "status": "completed",
         "content": [{"type": "output_text", "text": "I read.", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "mail"},
        {"type": "function_call_output", "call_id": "c2", "output": [image]},
        {"role": "assistant", "content": "Done."},
    ])  # fmt: skip
    kinds = [type(message) for message in found.messages]
    assert kinds == [ModelRequest, ModelResponse, ModelRequest, ModelResponse]
    assert [part.content for part in found.messages[0].parts[:2]] == ["Be kind.", "Be brief."]
    text, near, document = found.messages[0].parts[2].content
    assert (text, near) == ("Look:", BinaryImage(b"\x89PNG", media_type="image/png"))
    assert document.media_type == "application/pdf"
    assert found.messages[1].parts == [
        TextPart("I read."), ToolCallPart("read", "{}", "c1"),
        ToolCallPart("read", "{}", "c2")]  # fmt: skip
    one, other = found.messages[2].parts
    assert (one.tool_name, one.content, one.tool_call_id) == ("read", "mail", "c1")
    assert other.content == [near]
    assert found.messages[3].text == "Done."


def test_settings_and_tools_reach_the_model() -> None:
    found = asked(
        temperature=0.5, top_p=0.9, max_output_tokens=9, parallel_tool_calls=False,
        reasoning={"effort": "none"}, tools=[READ],
        tool_choice={"type": "function", "name": "read"},
    )  # fmt: skip
    assert found.settings == {
        "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "parallel_tool_calls": False,
        "thinking": False, "tool_choice": ["read"],
    }  # fmt: skip
    [tool] = found.parameters.function_tools
    assert (tool.name, tool.description, tool.strict) == ("read", "Read it.", True)
    assert tool.parameters_json_schema == READ["parameters"]


@pytest.mark.parametrize(
    ("mode", "expected"), [("auto", ToolOrOutput(["read"])), ("required", ["read"])]
)
def test_tools_may_be_allowed(mode: str, expected: Any) -> None:
    named = [{"type": "function", "name": "read"}]
    choice = {"type": "allowed_tools", "mode": mode, "tools": named}
    assert asked(tools=[READ], tool_choice=choice).settings["tool_choice"] == expected


class Weather(BaseModel):
    city: str


def test_a_wanted_schema_reaches_the_model_and_its_answer_is_parsed() -> None:
    async def test(stand: Stand) -> Any:
        found = await stand.openai.responses.parse(model="m", input="hi", text_format=Weather)
        return found.output_parsed, stand.last.parameters

    parsed, parameters = stood(test, ModelResponse([TextPart('{"city": "Bonn"}')]))
    assert parsed == Weather(city="Bonn")
    assert parameters.output_mode == "native"
    assert parameters.output_object.name == "Weather"
    wanted = {"format": {"type": "json_object"}}
    assert asked(text=wanted).parameters.output_mode == "prompted"


def test_a_conversation_goes_on_from_an_earlier_response() -> None:
    async def test(stand: Stand) -> list[Any]:
        first = await respond(stand, instructions="Be kind.", tools=[READ])
        results = [{"type": "function_call_output", "call_id": call, "output": "mail"}
                   for call in ("c1", "c2")]  # fmt: skip
        second = await respond(stand, input=results, previous_response_id=first.id,
                               instructions="Be brief.")  # fmt: skip
        await respond(stand, input="And?", previous_response_id=second.id)
        return stand.model.asked

    first, second, third = stood(test, CALLS, HELLO, HELLO)
    assert [part.content for part in first.messages[0].parts] == ["Be kind.", "hi"]
    # As with OpenAI, the instructions of an earlier request are not those of this one.
    assert [part.content for part in second.messages[0].parts] == ["Be brief.", "hi"]
    assert second.messages[1] is CALLS
    assert [part.content for part in second.messages[2].parts] == ["mail", "mail"]
    assert [part.content for part in third.messages[0].parts] == ["hi"]
    assert len(third.messages) == 5


def test_the_items_of_an_answer_come_back_to_the_model_as_it_gave_them() -> None:
    async def test(stand: Stand) -> Any:
        first = await respond(stand)
        results = [{"type": "function_call_output", "call_id": call, "output": "mail"}
                   for call in ("c1", "c2")]  # fmt: skip
        items = [item.model_dump(exclude_none=True) for item in first.output]
        await respond(stand, input=[{"role": "user", "content": "hi"}, *items, *results])
        return stand.last.messages

    assert stood(test, CALLS, HELLO)[1] is CALLS


def test_a_response_of_another_run_is_unknown_and_one_that_is_not_stored() -> None:
    async def other(stand: Stand) -> Any:
        return await respond(stand)

    async def test(stand: Stand) -> str:
        first = await respond(stand, store=False)
        with pytest.raises(openai.BadRequestError) as found:
            await respond(stand, previous_response_id=first.id)
        return found.value.message

    assert "this run has no response 'resp_" in stood(test)
    error = refused(previous_response_id=stood(other).id)
    assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"background": True}, "background: an answer is given on the request that asks for it"),
        ({"conversation": "c"}, "conversation: no conversations are stored here"),
        ({"prompt": {"id": "p"}}, "prompt: no prompts are stored here"),
        ({"top_logprobs": 2}, "top_logprobs: log probabilities are not recorded"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type: Input should be 'function'"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "'item_reference'"),
        ({"input": []}, "the conversation is empty"),
        ({"input": [{"type": "function_call_output", "call_id": "c9", "output": "x"}]},
         "a result answers the call 'c9', for which no answer before it asks"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
         "an image needs image_url: no files are stored here"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}},
         "text.format.schema is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(fields: Any, message: str) -> None:
    error = refused(**fields)
    assert isinstance(error, openai.BadRequestError)
    assert message in error.message
