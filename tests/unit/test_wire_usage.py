"""Odd usage never loses an answer, and is counted as far as it is known."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from pytest_siren.models.wire.repair import CHAT as CHAT_API
from pytest_siren.models.wire.repair import GENERATE as GENERATE_API
from pytest_siren.models.wire.repair import billed, repair
from tests.unit.limits_server import Answer
from tests.unit.wire_sample import CHAT, GENERATE, GOODS, MESSAGES, NAMES, RESPONSES, asked

pytestmark = pytest.mark.usefixtures("few_certificates")

KEYS = {
    CHAT: ("usage", "prompt_tokens", "completion_tokens", "total_tokens"),
    RESPONSES: ("usage", "input_tokens", "output_tokens", "total_tokens"),
    MESSAGES: ("usage", "input_tokens", "output_tokens", "total"),
    GENERATE: ("usageMetadata", "promptTokenCount", "candidatesTokenCount", "totalTokenCount"),
}
ABSENT = object()

ODD: dict[str, tuple[Any, tuple[int, int], str | None]] = {
    "missing": (ABSENT, (0, 0), "is missing"),
    "null": (None, (0, 0), "is missing"),
    "empty": ({}, (0, 0), "is missing"),
    "no object": ([1], (0, 0), "is missing"),
    "nulls": ({"in": None, "out": None, "total": None}, (0, 0), "is incomplete"),
    "partial": ({"in": 50}, (50, 0), "is incomplete"),
    "fractions": ({"in": 50.5, "out": 16, "total": 66.5}, (51, 16), "holds fractions of tokens"),
    "whole floats": ({"in": 50.0, "out": 16.0, "total": 66.0}, (50, 16), None),
    "no total": ({"in": 50, "out": 16}, (50, 16), None),
    "text": ({"in": "50", "out": "16", "total": "66"}, (50, 16), None),
    "words": ({"in": "many", "out": 16}, (0, 16), "holds counts that cannot be"),
    "negative": ({"in": -5, "out": -7, "total": -12}, (0, 0), "holds counts that cannot be"),
    "huge": ({"in": 10**30, "out": 16, "total": 10**30}, (0, 16), "holds counts that cannot be"),
    "not finite": (
        {"in": float("inf"), "out": float("nan")},
        (0, 0),
        "holds counts that cannot be",
    ),
    "objects": ({"in": {"a": 1}, "out": [16]}, (0, 0), "holds counts that cannot be"),
    "zeros": ({"in": 0, "out": 0, "total": 0}, (0, 0), "holds counts that cannot be"),
    "no input": ({"in": 0, "out": 16, "total": 16}, (0, 16), "holds counts that cannot be"),
    "true": ({"in": True, "out": 16}, (0, 16), "holds counts that cannot be"),
}


def odd_answer(name: str, usage: Any) -> Answer:
    body = dict(GOODS[name])
    key, *names = KEYS[name]
    if isinstance(usage, dict):
        known = dict(zip(("in", "out", "total"), names, strict=True))
        usage = {known[part]: count for part, count in usage.items()}
    if usage is ABSENT:
        del body[key]
    else:
        body[key] = usage
    return Answer(200, json.dumps(body), {"content-type": "application/json"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ODD)
def test_odd_usage_loses_no_answer(case: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage, tokens, problem = ODD[case]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = asked(name, odd_answer(name, usage), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)
    assert done.answer is not None
    found = done.answer.usage
    assert (found.input_tokens, found.output_tokens) == tokens
    assert bool(found.unmeasured_requests) is (problem not in (None, "holds fractions of tokens"))
    # One note, in words of ours, and none of a library.
    notes = [str(one.message) for one in caught if one.category is not ResourceWarning]
    expected = (
        f"model {name!r}: the usage that its provider reports {problem}; "
        "tokens are counted as far as they are known"
    )
    assert notes == ([expected] if problem else [])


@pytest.mark.parametrize("details", ["x", 7, [1], True])
def test_odd_details_of_usage_lose_no_answer(details: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    odd = {"prompt_tokens_details": details, "completion_tokens_details": details}
    done = asked(CHAT, Answer(200, {**GOODS[CHAT], "usage": {**usage, **odd}}), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 1)
    assert done.answer is not None
    assert done.answer.usage.total_tokens == 20


def test_a_total_beyond_all_counts_contradicts(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 500}
    with pytest.warns(UserWarning, match="contradicts itself"):
        done = asked(CHAT, Answer(200, {**GOODS[CHAT], "usage": usage}), monkeypatch)
    assert done.answer is not None
    assert done.answer.usage.unmeasured_requests == 1


def test_reasoning_that_is_counted_apart_is_output(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "total_tokens": 500,
        "completion_tokens_details": {"reasoning_tokens": 480},
    }
    done = asked(CHAT, Answer(200, {**GOODS[CHAT], "usage": usage}), monkeypatch)
    assert done.answer is not None
    assert (done.answer.usage.output_tokens, done.answer.usage.unmeasured_requests) == (490, 0)


def test_cached_tokens_beyond_all_of_them_contradict(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 5000},
    }
    with pytest.warns(UserWarning, match="contradicts itself"):
        done = asked(CHAT, Answer(200, {**GOODS[CHAT], "usage": usage}), monkeypatch)
    assert done.answer is not None
    assert (done.answer.usage.input_tokens, done.answer.usage.cache_read_tokens) == (10, 0)
    assert done.answer.usage.unmeasured_requests == 1


def test_the_note_is_given_once_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_siren.models.wire.exchange import Notes

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        notes = Notes("a:b")
        for _ in range(30):
            notes.give("is odd")
    assert [str(one.message) for one in caught] == ["model 'a:b': is odd"]


def test_a_count_that_the_total_tells_is_known() -> None:
    body = {"usage": {"prompt_tokens": 50, "total_tokens": 66}}
    assert repair(CHAT_API, body) is None
    assert body["usage"]["completion_tokens"] == 16
    # Google's wire format leaves out what is 0.
    body = {"usageMetadata": {"promptTokenCount": 50, "totalTokenCount": 50}}
    assert repair(GENERATE_API, body) is None
    body = {"usage": {"total_tokens": 66}}
    repaired = repair(CHAT_API, body)
    assert repaired is not None
    assert not repaired.measured
    assert body["usage"]["prompt_tokens"] == 66


def test_usage_in_order_is_left_as_it_is() -> None:
    usage = {
        "prompt_tokens": 50,
        "completion_tokens": 16,
        "total_tokens": 66,
        "cost": 0.00012,
        "is_byok": False,
        "cost_details": {"upstream_inference_cost": None},
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "service_tier": "default",
    }
    body = {"usage": usage}
    assert repair(CHAT_API, body) is None
    assert body["usage"] is usage


def test_tokens_of_thinking_and_of_caches_are_billed_too() -> None:
    usage = {"promptTokenCount": 50, "candidatesTokenCount": 5, "thoughtsTokenCount": 11}
    found = billed(GENERATE_API, {"usageMetadata": usage})
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (50, 16)
