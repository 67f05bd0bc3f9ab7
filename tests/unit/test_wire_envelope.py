"""What stands around an answer's words costs no answer, however odd it is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from pydantic_ai.messages import ToolCallPart

from pytest_siren.models.wire.repair import api_of, complete
from tests.unit.limits_server import Answer
from tests.unit.wire_sample import ANSWER_KEY, CHAT, GENERATE, GOODS, NAMES, RESPONSES, asked

pytestmark = pytest.mark.usefixtures("few_certificates")

ABSENT = object()
ODD = {
    "absent": ABSENT,
    "null": None,
    "number": 7,
    "fraction": -1.5,
    "text": "x",
    "list": [1],
    "object": {"a": [1]},
    "true": True,
    "huge": 10**30,
}
NOT_AROUND = {"error", "usage", "usageMetadata", "status", "stop_reason"}
"""What says how the answer ended, what it cost, or what went wrong."""


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_fields_beside_the_words_lose_no_answer(
    name: str, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = copy.deepcopy(GOODS[name])
    for key in body.keys() - NOT_AROUND - {ANSWER_KEY[name]}:
        if ODD[odd] is ABSENT:
            del body[key]
        else:
            body[key] = ODD[odd]
    done = asked(name, Answer(200, json.dumps(body)), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)


@pytest.mark.parametrize("odd", ODD)
def test_fields_of_a_choice_lose_no_answer(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = copy.deepcopy(GOODS[CHAT])
    (choice,) = body["choices"]
    message = choice["message"]
    for holder, keys in (
        (choice, ("index", "logprobs")),
        (message, ("role", "annotations", "audio", "reasoning", "reasoning_content", "refusal")),
    ):
        for key in keys:
            holder.pop(key, None)
            if ODD[odd] is not ABSENT and not (key == "refusal" and odd == "text"):
                holder[key] = ODD[odd]
    done = asked(CHAT, Answer(200, json.dumps(body)), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)


@pytest.mark.parametrize("odd", ODD)
def test_fields_of_a_candidate_lose_no_answer(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = copy.deepcopy(GOODS[GENERATE])
    (candidate,) = body["candidates"]
    for holder, key in ((candidate, "index"), (candidate["content"], "role")):
        holder.pop(key)
        if ODD[odd] is not ABSENT:
            holder[key] = ODD[odd]
    done = asked(GENERATE, Answer(200, json.dumps(body)), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)


@pytest.mark.parametrize("error", [{}, {"a": [1]}, True, 0, "", []])
def test_an_error_that_says_nothing_loses_no_answer(
    error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asked(RESPONSES, Answer(200, {**GOODS[RESPONSES], "error": error}), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)


@pytest.mark.parametrize("notes", [None, 7, "x", {"a": 1}, [1, {"type": "odd"}]])
def test_odd_annotations_lose_no_answer(notes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = copy.deepcopy(GOODS[RESPONSES])
    body["output"][0]["content"][0]["annotations"] = notes
    done = asked(RESPONSES, Answer(200, body), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [({"a": [1]}, {"a": [1]}), (None, {}), (ABSENT, {}), ('{"a": 1}', {"a": 1})],
)
@pytest.mark.parametrize("call_id", ["c1", None, 7, ABSENT])
def test_calls_without_ids_and_with_objects_as_arguments_are_executed(
    given: Any, arguments: Any, call_id: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = copy.deepcopy(GOODS[CHAT])
    call: dict[str, Any] = {"id": call_id, "function": {"name": "look", "arguments": given}}
    if call_id is ABSENT:
        del call["id"]
    if given is ABSENT:
        del call["function"]["arguments"]
    body["choices"][0] |= {"finish_reason": "tool_calls"}
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    done = asked(CHAT, Answer(200, body), monkeypatch)
    assert done.answer is not None, done.error
    (found,) = (part for part in done.answer.parts if isinstance(part, ToolCallPart))
    assert found.tool_name == "look"
    assert found.args_as_dict() == arguments
    assert found.tool_call_id


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_answer_is_left_as_it_is(name: str) -> None:
    paths = ("/chat/completions", "/responses", "/messages", "/m:generateContent")
    api = api_of(dict(zip(NAMES, paths, strict=True))[name])
    assert api is not None
    body = copy.deepcopy(GOODS[name])
    assert not complete(api, body)
    assert body == GOODS[name]


EVENTS = {"content-type": "text/event-stream"}


def test_an_answer_in_events_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"data: {json.dumps(GOODS[CHAT])}\n\ndata: [DONE]\n\n"
    assert asked(CHAT, Answer(200, text, EVENTS), monkeypatch).text == "Done."


def test_an_error_in_events_is_the_error_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'event: error\ndata: {"error": {"message": "WORDS", "code": 500}}\n\ndata: [DONE]\n\n'
    done = asked(CHAT, Answer(200, text, EVENTS), monkeypatch)
    assert "WORDS" in done.message
    assert done.requests > 1


def test_a_stream_that_nobody_asked_for_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'data: {"part": "Do"}\n\ndata: {"part": "ne."}\n\n'
    done = asked(CHAT, Answer(200, text, EVENTS), monkeypatch)
    assert "streams its answer, which nobody asked for" in done.message
    assert '{"part": "Do"}' in done.message
