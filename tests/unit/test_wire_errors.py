"""The same provider error is the same outcome by every provider name, whatever its status."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError

from pytest_siren.evaluation.models import ModelUnavailableError
from pytest_siren.models.wire.errors import UnusableAnswerError, error_in
from tests.unit.limits_server import Answer, error
from tests.unit.wire_sample import (
    ANSWER_KEY,
    CHAT,
    GATEWAYS,
    GENERATE,
    GOODS,
    MESSAGES,
    NAMES,
    RESPONSES,
    asked,
)

pytestmark = pytest.mark.usefixtures("few_certificates")

EVERYBODY = [*NAMES, *GATEWAYS]
ONCE, FAULT, REFUSAL = 1, 6, 5
"""Requests until the tests' patience has an end."""
LIBRARY = ("validation error", "pydantic", "NoneType", "list index", "has no attribute", "KeyError")

IN_200: dict[str, tuple[Any, int, int | None]] = {
    "a 502": ({"error": {"code": 502, "message": "WORDS"}}, FAULT, 502),
    "a 502 as text": ({"error": {"code": "502", "message": "WORDS"}}, FAULT, 502),
    "a 429": ({"error": {"code": 429, "type": "rate_limit_exceeded", "message": "WORDS"}}, 5, 429),
    "a type": ({"error": {"type": "rate_limit_error", "message": "WORDS"}}, REFUSAL, 429),
    "Anthropic's": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "WORDS"}},
        REFUSAL,
        529,
    ),
    "Google's": (
        {"error": {"code": 503, "status": "UNAVAILABLE", "message": "WORDS"}},
        FAULT,
        503,
    ),
    "a list": (
        [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "WORDS"}}],
        5,
        429,
    ),
    "a list of errors": ({"errors": [{"status": 500, "message": "WORDS"}]}, FAULT, 500),
    "text": ({"error": "WORDS: Too many requests"}, REFUSAL, 429),
    "a code beside it": ({"status_code": 504, "error": {"message": "WORDS"}}, FAULT, 504),
    "an error in an error": ({"error": {"error": {"code": 500, "message": "WORDS"}}}, FAULT, 500),
    "Apigee's": (
        {"fault": {"faultstring": "WORDS", "detail": {"errorcode": "policies.ratelimit.Spike"}}},
        REFUSAL,
        429,
    ),
    "a rejected request": (
        {"error": {"type": "invalid_request_error", "message": "WORDS"}},
        ONCE,
        400,
    ),
    "no code": ({"error": {"message": "WORDS"}}, ONCE, None),
    "a detail": ({"detail": "WORDS"}, ONCE, None),
    "details": ({"detail": [{"loc": ["body"], "msg": "WORDS"}]}, ONCE, None),
    "a message": ({"message": "WORDS"}, ONCE, None),
    "a message of too many": ({"message": "WORDS: rate limit reached"}, REFUSAL, 429),
    "Cloudflare's": (
        {"success": False, "errors": [{"code": 7003, "message": "WORDS"}], "result": None},
        ONCE,
        None,
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", IN_200)
def test_an_error_inside_a_200_is_the_error_it_says(
    case: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, requests, status = IN_200[case]
    done = asked(name, Answer(200, body), monkeypatch)
    assert done.requests == requests, done.error
    assert "WORDS" in done.message
    assert not any(words in done.message for words in LIBRARY)
    if status is None:
        assert type(done.error) is UnusableAnswerError
    else:
        assert isinstance(done.error, ModelHTTPError)
        assert done.error.status_code == status


@pytest.mark.parametrize("name", EVERYBODY)
def test_one_that_passes_costs_nothing_but_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Answer(200, {"error": {"message": "slow down", "code": 429}})
    done = asked(name, lambda number: slow if number < 2 else Answer(200, GOODS[name]), monkeypatch)
    assert (done.text, done.requests) == ("Done.", 3)
    assert done.retries == ["rate limit"] * 2


def test_an_error_within_a_choice_is_the_error_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = {"index": 0, "finish_reason": "error", "message": {"role": "assistant", "content": ""}}
    for part in (
        {**choice, "error": {"code": 502, "message": "upstream is down"}},
        {
            **choice,
            "message": {"content": "", "error": {"code": 502, "message": "upstream is down"}},
        },
    ):
        done = asked(CHAT, Answer(200, {**GOODS[CHAT], "choices": [part]}), monkeypatch)
        assert done.requests == FAULT
        assert "upstream is down" in done.message
        assert [one.usage.total_tokens for one in done.billed] == [120] * FAULT


@pytest.mark.parametrize(
    ("code", "requests"),
    [("server_error", FAULT), ("rate_limit_exceeded", REFUSAL), ("invalid_prompt", ONCE)],
)
def test_a_response_that_failed_is_the_error_it_says(
    code: str, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"status": "failed", "output": [], "error": {"code": code, "message": "it broke"}}
    done = asked(RESPONSES, Answer(200, {**GOODS[RESPONSES], **failed}), monkeypatch)
    assert done.requests == requests
    assert "it broke" in done.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nothing", [[], None, "absent", 5])
def test_an_answer_that_holds_none_says_so_and_is_paid_for(
    nothing: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if nothing == [] and name in (RESPONSES, MESSAGES):
        pytest.skip("an empty list is an empty answer there")
    body = {**GOODS[name], ANSWER_KEY[name]: nothing}
    if nothing == "absent":
        del body[ANSWER_KEY[name]]
    done = asked(name, Answer(200, body), monkeypatch)
    assert done.requests == ONCE
    assert done.message.startswith(
        f"the provider's answer has no {ANSWER_KEY[name]} but 120 tokens: {{"
    )
    (billed,) = done.billed
    assert (billed.usage.input_tokens, billed.usage.output_tokens) == (100, 20)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html><body>Sign in</body></html>", "is no JSON: <html><body>Sign in</body></html>"),
        ("", "is empty"),
        ("null", "is not an object: null"),
        ("5", "is not an object: 5"),
        ('"hello"', 'is not an object: "hello"'),
        ("[]", "is not an object: []"),
    ],
)
def test_what_some_other_server_sends_is_asked_for_again_and_quoted(
    body: str, words: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asked(name, Answer(200, body), monkeypatch)
    assert isinstance(done.error, ModelUnavailableError)
    assert f"the provider's answer {words}; check " in done.message
    assert done.requests == FAULT
    # Where the address is right, it is an error of the run.
    done = asked(name, Answer(200, body), monkeypatch, prove=True)
    assert type(done.error) is UnusableAnswerError
    assert words in done.message


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_breaks_off_is_asked_for_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = json.dumps(GOODS[name])
    torn = Answer(200, good[:-30], {"content-type": "application/json"})
    done = asked(name, lambda number: Answer(200, GOODS[name]) if number else torn, monkeypatch)
    assert (done.text, done.retries) == ("Done.", ["no answer"])
    # The connection is closed in the midst of the body.
    cut = Answer(200, good[:-30], {"content-length": str(len(good))}, closes=True)
    done = asked(name, lambda number: Answer(200, GOODS[name]) if number else cut, monkeypatch)
    assert (done.text, done.retries) == ("Done.", ["connection"])
    done = asked(name, torn, monkeypatch)
    assert done.message.startswith("the provider's answer breaks off, or is no JSON: {")


@pytest.mark.parametrize("name", NAMES)
def test_a_body_that_cannot_be_unpacked_is_asked_for_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Answer(200, GOODS[name], {"content-encoding": "gzip"})
    done = asked(name, lambda number: Answer(200, GOODS[name]) if number else broken, monkeypatch)
    assert (done.text, done.retries) == ("Done.", ["no answer"])
    # An error keeps its status.
    refused = Answer(429, "not gzip", {"content-encoding": "gzip"})
    assert asked(name, refused, monkeypatch).requests == REFUSAL


def test_a_body_that_can_be_unpacked_is(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(json.dumps(GOODS[CHAT]).encode()).decode("latin-1")
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    done = asked(CHAT, Answer(200, packed.encode("latin-1"), headers), monkeypatch)
    assert done.text == "Done."


@pytest.mark.parametrize("name", NAMES)
def test_no_good_answer_is_lost_for_how_it_is_sent(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(GOODS[name])
    for kind in ("text/html", "text/plain; charset=latin-1", "application/octet-stream"):
        assert asked(name, Answer(200, text, {"content-type": kind}), monkeypatch).text == "Done."
    bom = Answer(200, b"\xef\xbb\xbf" + text.encode(), {"content-type": "application/json"})
    assert asked(name, bom, monkeypatch).text == "Done."
    invalid = Answer(200, text.encode().replace(b"Done.", b"D\xffne."), {"content-type": "json"})
    assert asked(name, invalid, monkeypatch).text == "D\N{REPLACEMENT CHARACTER}ne."
    large = Answer(200, GOODS[name], {"x-trace": "x" * 60_000})
    assert asked(name, large, monkeypatch).text == "Done."


STATUSES = [400, 401, 402, 403, 404, 407, 408, 409, 422, 429, 500, 501, 502, 503, 504, 529]


@pytest.mark.parametrize("body", ["page", "object", "list"])
def test_every_status_is_the_same_outcome_by_every_provider_name(
    body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: dict[str, Any] = {"error": {"message": "WORDS"}}
    bodies = {"page": "<html>WORDS</html>", "object": plain, "list": [plain]}
    for status in STATUSES:
        outcomes = {}
        for name in (*NAMES, GATEWAYS[0]):
            done = asked(name, Answer(status, bodies[body]), monkeypatch)
            assert "WORDS" in done.message, (status, name)
            outcomes[name] = (done.requests, isinstance(done.error, ModelUnavailableError))
        assert len(set(outcomes.values())) == 1, (status, outcomes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_on_the_same_server_is_followed(
    status: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Answer(status, "", {"location": "/v2/elsewhere"})
    good = Answer(200, GOODS[name])
    done = asked(name, lambda number: good if number else moved, monkeypatch)
    assert (done.text, done.requests) == ("Done.", 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("status", "place"),
    [(307, "http://elsewhere.example/v1"), (302, "http://127.0.0.1:1/"), (303, "/login")],
)
def test_a_redirect_elsewhere_is_named_and_not_followed(
    status: int, place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asked(name, Answer(status, "", {"location": place}), monkeypatch)
    assert (done.requests, done.message) == (1, f"the server redirects to {place} ({status})")


def test_a_redirect_in_circles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    done = asked(CHAT, Answer(307, "", {"location": "/v1/round"}), monkeypatch)
    assert done.message == "the server redirects to /v1/round (307)"
    assert done.requests == 4


def test_a_proxy_that_wants_a_password_ends_it_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = asked(CHAT, Answer(407, "<html>Proxy Authentication Required</html>"), monkeypatch)
    assert isinstance(done.error, ModelUnavailableError)
    assert done.message.endswith("(407); check HTTPS_PROXY and HTTP_PROXY")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (CHAT, {"choices": [{"index": 0, "message": {"role": "assistant", "content": 5}}]}),
        (RESPONSES, {"output": [{"type": "message", "content": None}]}),
        (MESSAGES, {"content": [{"type": "text"}]}),
        (GENERATE, {"candidates": [{"content": 5}]}),
    ],
)
def test_a_librarys_own_error_is_never_the_message(
    name: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asked(name, Answer(200, {**GOODS[name], **body}), monkeypatch)
    assert done.message.startswith("the provider's answer is not what its API promises (")
    assert not any(words in done.message for words in LIBRARY)
    assert [one.usage.total_tokens for one in done.billed] == [120]


def test_an_error_that_is_none_loses_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (None, {}, "", [], {"code": 0, "message": ""}, {"code": 200}, "none", False):
        body = {**GOODS[CHAT], "error": nothing, "base_resp": {"status_code": 0, "status_msg": ""}}
        assert asked(CHAT, Answer(200, body), monkeypatch).text == "Done."


def test_an_error_with_its_own_status_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    done = asked(CHAT, error(400, "context_length_exceeded", "too long"), monkeypatch)
    assert isinstance(done.error, ModelHTTPError)
    assert done.error.status_code == 400


def test_the_status_is_found_in_whatever_names_the_error() -> None:
    for kind, status in {
        "RateLimitError": 429,
        "TooManyRequests": 429,
        "ThrottlingException": 429,
        "insufficient_quota": 429,
        "AuthenticationError": 401,
        "PERMISSION_DENIED": 403,
        "model_not_found": 404,
        "INTERNAL": 500,
        "InternalServerError": 500,
        "api_error": 500,
        "DEADLINE_EXCEEDED": 504,
        "ServiceUnavailable": 503,
        "INVALID_ARGUMENT": 400,
        "something_else": None,
    }.items():
        found = error_in({"error": {"type": kind, "message": "x"}}, answered=False)
        assert found is not None
        assert found.status == status, kind
