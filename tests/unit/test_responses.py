"""How answers of every provider ended, by what pydantic-ai makes of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters

from pytest_siren.evaluation.scores import Finish
from pytest_siren.evaluation.scoring import (
    ToolCallLostError,
    check_calls,
    decode_calls,
    finish_of,
    finish_of_run,
    words_of,
)
from pytest_siren.models.transport.client import opened
from tests.endings import CALL, CUSTOM, ENDINGS, LEGACY, Ending, call, chat, responses

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY")


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "a key")


def received(api: str, body: dict[str, Any]) -> ModelResponse:
    """Return what pydantic-ai makes of ``body``."""

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=body)

    async def ask() -> ModelResponse:
        async with opened(f"{api}:m", httpx2.MockTransport(answer)) as (model, taken):
            assert taken
            prompt = ModelRequest(parts=[UserPromptPart("When is lunch?")])
            return await model.request([prompt], None, ModelRequestParameters())

    return asyncio.run(ask())


@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.model)
def test_an_answer_of_any_provider_is_known_by_how_it_ended(ending: Ending) -> None:
    response = received(ending.api, ending.body)
    if ending.finish == "error":
        with pytest.raises(ToolCallLostError, match=r"asked for a tool .* holds no call"):
            check_calls(response)
        return
    check_calls(response)
    assert finish_of(response) == ending.finish
    assert words_of(response) == ending.output


@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize("api", ["openai-chat", "openai", "anthropic", "google"])
def test_a_call_of_any_provider_is_complete_and_decoded(api: str) -> None:
    response = received(api, call(api))
    check_calls(response)
    assert finish_of(response) is Finish.COMPLETE
    [found] = decode_calls(response)
    assert (found.name, found.args, found.problem) == (*CALL, None)


@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("openai-chat", chat("function_call", LEGACY)),
        ("openai-chat", chat("stop", {"content": "I send it.", **LEGACY})),
        ("openai", {**responses("completed"), "output": [CUSTOM]}),
    ],
)
def test_calls_in_the_places_of_other_protocols_are_found(api: str, body: dict[str, Any]) -> None:
    response = received(api, body)
    check_calls(response)
    [found] = decode_calls(response)
    assert (found.name, found.args, found.problem) == (*CALL, None)


@pytest.mark.usefixtures("_keys")
def test_a_call_is_not_found_twice_and_odd_ones_are_left_alone() -> None:
    both = call("openai-chat")
    both["choices"][0]["message"] |= LEGACY
    assert len(decode_calls(received("openai-chat", both))) == 1
    nameless = chat("function_call", {"function_call": {"arguments": "{}"}})
    with pytest.raises((ToolCallLostError, UnexpectedModelBehavior)):
        check_calls(received("openai-chat", nameless))
    unread = {**CUSTOM, "input": "to eve"}
    [found] = decode_calls(received("openai", {**responses("completed"), "output": [unread]}))
    assert found.problem is not None
    assert found.problem.startswith("the arguments are not valid JSON")


def response(*parts: Any, **values: Any) -> ModelResponse:
    return ModelResponse(parts=list(parts), **values)


@pytest.mark.parametrize(
    ("made", "finish"),
    [
        (response(TextPart("yes")), "complete"),
        (response(ToolCallPart("t", {})), "complete"),
        (response(), "empty"),
        (response(TextPart(" \t\n\u2060\ufeff\u3164\ufe0f")), "empty"),
        (response(TextPart("\U0001f44d\ufe0f")), "complete"),
        (response(ThinkingPart("hm")), "empty"),
        (response(TextPart("yes"), state="interrupted"), "incomplete"),
        (response(TextPart("yes"), provider_details={"finish_reason": "END-TURN"}), "complete"),
        (response(TextPart("yes"), provider_details={"finish_reason": "max-tokens"}), "length"),
        (response(TextPart("yes"), provider_details={"finish_reason": 7}), "complete"),
        (response(TextPart("yes"), provider_details={"refusal": "no"}), "refused"),
    ],
)
def test_models_of_any_kind_may_say_how_an_answer_ended(made: ModelResponse, finish: str) -> None:
    assert finish_of(made) == finish


def test_the_last_response_tells_how_a_run_ended() -> None:
    cut = response(TextPart("Lu"), finish_reason="length", provider_details={"finish_reason": "x"})
    request = ModelRequest(parts=[UserPromptPart("go on")])
    assert finish_of_run((request, response(), request, cut, request)) == ("length", "x")
    assert finish_of_run((request,)) == ("empty", None)


def cut_off(*parts: Any) -> list[str | None]:
    """Return the problem of each call of an answer that was cut off."""
    return [one.problem for one in decode_calls(response(*parts, finish_reason="length"))]


def test_only_whole_arguments_of_an_answer_that_was_cut_off_are_decoded() -> None:
    whole = ToolCallPart("t", '{"to": "a"}')
    [first, torn] = cut_off(whole, ToolCallPart("t", '{"to": "a'))
    assert first is None
    assert torn is not None
    assert torn.startswith("the arguments are not valid JSON")
    assert cut_off(whole, whole) == [None, None]
    unsaid = "the answer was cut off in this call, so its arguments may be incomplete"
    for args in ({"to": "a"}, {}, None, "", " "):
        assert cut_off(whole, ToolCallPart("t", args)) == [None, unsaid]
        assert cut_off(ToolCallPart("t", args), TextPart("x")) == [None]


@pytest.mark.parametrize("depth", [101, 5_000, 20_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_arguments_that_are_nested_too_deeply_are_the_calls_problem(
    depth: int, brackets: tuple[str, str]
) -> None:
    inner = "[]" if brackets[0] == "[" else "{}"
    args = '{"to": ' + brackets[0] * depth + inner + brackets[1] * depth + "}"
    for given in (args, json.loads(args) if depth < 500 else args):
        [found] = decode_calls(response(ToolCallPart("t", given)))
        assert found.problem == "the arguments are nested too deeply"


def test_arguments_of_common_depth_are_decoded() -> None:
    args = '{"to": ' + "[" * 98 + "]" * 98 + "}"
    [found] = decode_calls(response(ToolCallPart("t", args)))
    assert found.problem is None
