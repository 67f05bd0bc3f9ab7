"""What real SDKs raise for what real servers answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

from pytest_siren.evaluation.models import ModelUnavailableError
from pytest_siren.models.api import ApiModelSource
from pytest_siren.models.ratelimit.error_class import (
    ErrorClass,
    ErrorKind,
    classify,
    details_of,
    printable,
)
from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.models.ratelimit.retrying_model import RetryingModel
from pytest_siren.models.transport.client import without_own_retries
from tests.unit.limits_server import Answer, ask, bound, error, governed, serving

PAGE = "<html><body>The request was blocked</body></html>"


def raised_by(answer: Answer, monkeypatch: pytest.MonkeyPatch, name: str) -> Exception:
    async def run() -> Exception:
        async with serving(answer) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            monkeypatch.setenv("OPENAI_API_KEY", "key")
            source = ApiModelSource(name)
            model = await bound(source)
            without_own_retries(model)
            with pytest.raises(ModelAPIError) as raised:
                await ask(model)
            await source.aclose()
            assert len(server.arrivals) == 1
            return raised.value

    return asyncio.run(run())


OPENAI = [
    (error(429, "rate_limit_exceeded", "Rate limit reached"), ErrorKind.RATE_LIMITED, "rate limit"),
    (error(429, "insufficient_quota", "You exceeded your quota"), ErrorKind.UNAVAILABLE, "quota"),
    (error(429, "billing_hard_limit_reached", "Limit reached"), ErrorKind.UNAVAILABLE, "quota"),
    (error(402, None, "Insufficient Balance"), ErrorKind.UNAVAILABLE, "quota"),
    (error(400, None, "Your credit balance is too low to ..."), ErrorKind.UNAVAILABLE, "quota"),
    (error(401, "invalid_api_key", "Incorrect API key provided"), ErrorKind.UNAVAILABLE, "key"),
    (Answer(401, ""), ErrorKind.UNAVAILABLE, "key"),
    (error(400, None, "API key not valid. Please pass a valid one"), ErrorKind.UNAVAILABLE, "key"),
    (error(403, "permission_denied", "No"), ErrorKind.UNAVAILABLE, "key"),
    (error(403, None, "You do not have access to this model"), ErrorKind.UNAVAILABLE, "key"),
    (error(403, "content_policy_violation", "No"), ErrorKind.REJECTED, "error"),
    (error(403, None, "Your input was flagged by moderation"), ErrorKind.REJECTED, "error"),
    (Answer(403, PAGE), ErrorKind.REJECTED, "error"),
    (Answer(403, "<html>Forbidden</html>"), ErrorKind.UNEXPLAINED, "rejected"),
    (error(404, "model_not_found", "The model `x` does not exist"), ErrorKind.UNAVAILABLE, "model"),
    (error(404, None, "model: claude-9"), ErrorKind.UNAVAILABLE, "model"),
    (error(404, None, 'model "llama9" not found'), ErrorKind.UNAVAILABLE, "model"),
    (error(400, None, "Invalid model: mistral-9"), ErrorKind.UNAVAILABLE, "model"),
    (error(400, None, "Model Not Exist"), ErrorKind.UNAVAILABLE, "model"),
    (error(404, None, "Item with id 'rs_1' not found."), ErrorKind.REJECTED, "error"),
    (
        error(404, "previous_response_not_found", "Response x not found"),
        ErrorKind.REJECTED,
        "error",
    ),
    (Answer(404, {"detail": "Not Found"}), ErrorKind.UNEXPLAINED, "rejected"),
    (Answer(404, "<html>Not Found</html>"), ErrorKind.UNEXPLAINED, "rejected"),
    (error(400, "context_length_exceeded", "maximum context length"), ErrorKind.REJECTED, "error"),
    (error(400, None, "Invalid value for tool 'model_exists'"), ErrorKind.REJECTED, "error"),
    (error(422, None, "Unprocessable"), ErrorKind.REJECTED, "error"),
    (error(500, "server_error", "The server had an error"), ErrorKind.TRANSIENT, "server error"),
    (Answer(502, "<html>Bad gateway</html>"), ErrorKind.TRANSIENT, "server error"),
    (Answer(504, "<html>Gateway time-out</html>"), ErrorKind.TRANSIENT, "time-out"),
    (error(408, None, "Too slow"), ErrorKind.TRANSIENT, "time-out"),
    (error(503, None, "Service unavailable"), ErrorKind.TRANSIENT, "server error"),
    (error(503, None, "Busy", retry_after="3"), ErrorKind.RATE_LIMITED, "overloaded"),
    (error(503, None, "The server is overloaded"), ErrorKind.RATE_LIMITED, "overloaded"),
    (error(529, "overloaded_error", "Overloaded"), ErrorKind.RATE_LIMITED, "overloaded"),
    (error(501, None, "Not implemented"), ErrorKind.REJECTED, "error"),
    (error(500, None, "Never", x_should_retry="false"), ErrorKind.REJECTED, "error"),
    (Answer(reset=True), ErrorKind.TRANSIENT, "connection"),
]


@pytest.mark.parametrize(("answer", "kind", "reason"), OPENAI)
@pytest.mark.parametrize("name", ["openai-chat:m", "openai-responses:m"])
def test_what_openais_sdk_raises(
    answer: Answer, kind: ErrorKind, reason: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = classify(details_of(raised_by(answer, monkeypatch, name)))
    assert (verdict.kind, verdict.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(429, "rate_limit_error", "Slow down", retry_after="7"), ErrorKind.RATE_LIMITED),
        (error(529, "overloaded_error", "Overloaded"), ErrorKind.RATE_LIMITED),
        (error(401, "authentication_error", "invalid x-api-key"), ErrorKind.UNAVAILABLE),
        (error(404, "not_found_error", "model: claude-9"), ErrorKind.UNAVAILABLE),
        (error(500, "api_error", "Internal server error"), ErrorKind.TRANSIENT),
        (error(400, "invalid_request_error", "messages: empty"), ErrorKind.REJECTED),
        (Answer(reset=True), ErrorKind.TRANSIENT),
    ],
)
def test_what_anthropics_sdk_raises(
    answer: Answer, kind: ErrorKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("anthropic")

    async def verdict() -> ErrorClass:
        async with serving(answer) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url.removesuffix("/v1"))
            monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
            source = ApiModelSource("anthropic:claude-x")
            model = await bound(source)
            without_own_retries(model)
            with pytest.raises(ModelAPIError) as raised:
                await ask(model)
            await source.aclose()
            assert len(server.arrivals) == 1
            facts = details_of(raised.value)
            if "retry-after" in answer.headers:
                assert facts.headers["retry-after"] == "7"
            return classify(facts)

    assert asyncio.run(verdict()).kind is kind


def test_a_server_that_is_not_there_was_never_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def facts() -> object:
        async with serving(Answer()) as server:
            url = server.url
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        source = ApiModelSource("openai-chat:m")
        model = await bound(source)
        without_own_retries(model)
        with pytest.raises(ModelAPIError) as raised:
            await ask(model)
        await source.aclose()
        return details_of(raised.value).connecting

    assert asyncio.run(facts()) is True


def test_an_error_that_is_no_answer_is_the_runs_own() -> None:
    for raised in (ValueError("no"), FileNotFoundError("no such image"), KeyError("x")):
        assert classify(details_of(raised)).kind is ErrorKind.REJECTED


def test_the_cause_of_an_exception_counts() -> None:
    outer = RuntimeError("some library's own")
    outer.__cause__ = ConnectionResetError("reset")
    assert classify(details_of(outer)) == ErrorClass(ErrorKind.TRANSIENT, "connection")


def test_googles_advice_in_the_body_is_heard() -> None:
    raised = ModelHTTPError(429, "gemini", retry_after=3.0)
    assert details_of(raised).retry_after == 3.0


def test_what_a_provider_says_is_made_printable_and_short() -> None:
    assert printable("a\x1b[31mb\r\n c\u202e") == "a [31mb c"
    assert len(printable("x" * 10_000)) == 300


MESSAGES: list[tuple[str, Answer, str]] = [
    (
        "openai-chat:gpt-4o-mini",
        error(401, "invalid_api_key", "Incorrect API key provided: k."),
        "model 'openai-chat:gpt-4o-mini': Incorrect API key provided: k (401); "
        "check OPENAI_API_KEY",
    ),
    (
        "openai:gpt-9",
        error(404, "model_not_found", "The model `gpt-9` does not exist"),
        "model 'openai:gpt-9': The model `gpt-9` does not exist (404); "
        "check the model's name, and that the account may use it",
    ),
    (
        "openai:gpt-5",
        error(429, "insufficient_quota", "You exceeded your current quota.\n\x1b[2J"),
        "model 'openai:gpt-5': You exceeded your current quota. [2J (429); "
        "check the plan and the balance of the account at openai",
    ),
    (
        "openai:gpt-5",
        error(429, "rate_limit_exceeded", "Tomorrow", retry_after="86400"),
        "model 'openai:gpt-5': its provider asks to wait 86,400 s before the next request, longer "
        "than 900 s; run pytest --lf when the limit has been reset",
    ),
]


@pytest.mark.parametrize(("name", "answer", "message"), MESSAGES)
def test_what_ends_the_session_is_one_line(
    name: str, answer: Answer, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with serving(answer) as server, governed(server, monkeypatch, name=name) as source:
            with pytest.raises(ModelUnavailableError) as raised:
                await ask(await bound(source))
            assert str(raised.value) == message
            assert len(server.arrivals) == 1

    asyncio.run(run())


def unexplained(
    answer: Callable[[int], Answer] | Answer, monkeypatch: pytest.MonkeyPatch
) -> list[type[BaseException]]:
    async def run() -> list[type[BaseException]]:
        kinds = []
        async with serving(answer) as server, governed(server, monkeypatch) as source:
            for _ in range(5):
                model = await bound(source)
                assert isinstance(model, RetryingModel)
                try:
                    await ask(model)
                except (ModelHTTPError, ModelUnavailableError) as raised:
                    kinds.append(type(raised))
        return kinds

    return asyncio.run(run())


def test_rejections_without_a_reason_end_the_session_when_nothing_else_ever_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = unexplained(Answer(404, "<html>Not Found</html>"), monkeypatch)
    assert [kind is ModelUnavailableError for kind in kinds] == [False, False, True, True, True]


def test_rejections_of_some_prompts_are_errors_of_their_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(number: int) -> Answer:
        return Answer() if number == 0 else Answer(403, "<html>Forbidden</html>")

    kinds = unexplained(answer, monkeypatch)
    assert len(kinds) == 4
    assert ModelUnavailableError not in kinds


def test_an_address_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with serving(Answer()) as server:
            gone = server
        limiters = RateLimiters(None, 4)
        async with governed(gone, monkeypatch, limiters) as source:
            model = await bound(source)
            monkeypatch.setattr(
                "pytest_siren.models.ratelimit.retrying_model.after_transient",
                lambda tries, random: 0.0,
            )
            with pytest.raises(ModelUnavailableError) as raised:
                await ask(model)
            assert "and that the provider's server runs" in str(raised.value)
            assert [retry.reason for retry in model.retries] == ["connection"] * 3

    asyncio.run(run())
