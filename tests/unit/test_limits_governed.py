from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.test import TestModel as PydanticTestModel
from pydantic_ai.settings import ModelSettings

from pytest_siren.evaluation.models import CountsRetries, SupportsRateLimit
from pytest_siren.models.api import ApiModelSource, ModelNameError, ModelPackageError
from pytest_siren.models.control import ControlSource
from pytest_siren.models.ratelimit import retrying_model
from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.models.ratelimit.retrying_model import RetryingModel
from pytest_siren.models.transport.sequencing import SequencedTransport
from pytest_siren.sharing.state import Board, Gauge
from tests.unit.limits_server import BUSY, Answer, Server, ask, bound, error, governed, serving
from tests.unit.models_sample import RUN


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits without advice are short."""
    monkeypatch.setattr(retrying_model, "after_transient", lambda tries, random: 0.01)


def first(*answers: Answer) -> Callable[[int], Answer]:
    return lambda number: answers[number] if number < len(answers) else Answer()


def answered(
    answer: Callable[[int], Answer] | Answer,
    monkeypatch: pytest.MonkeyPatch,
    limiters: RateLimiters | None = None,
) -> tuple[Server, RetryingModel, Exception | None]:
    async def run() -> tuple[Server, RetryingModel, Exception | None]:
        async with serving(answer) as server, governed(server, monkeypatch, limiters) as source:
            model = await bound(source)
            try:
                assert (await ask(model)).text == "Done."
            except ModelHTTPError as raised:
                return server, model, raised
            return server, model, None

    return asyncio.run(run())


def test_what_is_refused_or_fails_is_sent_again_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board = Board.open(tmp_path / "board")
    waits = replace(BUSY, headers={"retry-after-ms": "200"})
    answer = first(waits, error(500, None, "no"), Answer(reset=True))
    before = time.time()
    server, model, raised = answered(answer, monkeypatch, RateLimiters(board, 4))
    assert raised is None
    assert len(server.arrivals) == 4
    assert isinstance(model, CountsRetries)
    kept = [(retry.reason, retry.status) for retry in model.retries]
    assert kept == [("rate limit", 429), ("server error", 500), ("connection", None)]
    assert server.arrivals[1] - server.arrivals[0] >= 0.2
    assert 0.2 <= model.retries[0].waited < 2.0
    assert before <= model.retries[0].at.timestamp() <= time.time()
    assert (board[Gauge.REQUESTS], board[Gauge.RETRIES], board[Gauge.HELD]) == (1, 3, 0)
    board.close()


def test_faults_in_a_row_end_after_six_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    server, model, raised = answered(error(500, None, "no"), monkeypatch)
    assert len(server.arrivals) == 6
    assert len(model.retries) == 5
    assert isinstance(raised, ModelHTTPError)
    assert raised.__notes__ == ["given up after 6 tries in a row"]


def test_a_connection_that_breaks_is_not_one_that_never_came_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        async with serving(Answer(reset=True)) as server, governed(server, monkeypatch) as source:
            model = await bound(source)
            # An address without a server would make the model unavailable after four tries.
            with pytest.raises(ModelAPIError) as raised:
                await ask(model)
            assert raised.value.__notes__ == ["given up after 6 tries in a row"]
            assert [retry.reason for retry in model.retries] == ["connection"] * 5
            assert len(server.arrivals) == 6

    asyncio.run(run())


def test_a_refusal_between_faults_begins_a_new_row(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = error(500, None, "no")
    quick = replace(BUSY, headers={"retry-after": "0"})
    server, _, raised = answered(first(*[fault] * 5, quick, *[fault] * 5), monkeypatch)
    assert raised is None
    assert len(server.arrivals) == 12


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        busy = replace(BUSY, headers={"retry-after-ms": "100"})
        async with serving(busy) as server, governed(server, monkeypatch) as source:
            model = await bound(source)
            model._patience = 0.8
            with pytest.raises(ModelHTTPError) as raised:
                await ask(model)
            assert raised.value.__notes__[0].startswith("given up after ")
            assert 2 <= len(server.arrivals) <= 9

    asyncio.run(run())


def test_what_is_the_runs_own_error_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server, model, raised = answered(error(400, None, "Invalid tool"), monkeypatch)
    assert len(server.arrivals) == 1
    assert model.retries == []
    assert raised is not None


def test_the_sdk_does_not_send_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> int:
        async with serving(error(400, None, "no")) as server:
            answers = first(*[error(500, None, "no")] * 2)
            server.answer = answers
            async with governed(server, monkeypatch) as source:
                model = await bound(source)
                messages = [ModelRequest(parts=[UserPromptPart("hello")])]
                settings = ModelSettings(max_retries=5)
                await model.request(messages, settings, ModelRequestParameters())
                assert settings == {"max_retries": 5}
            return len(model.retries)

    assert asyncio.run(run()) == 2


def test_when_nothing_remains_all_wait_for_the_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Answer(
        headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "400ms"}
    )

    async def run() -> None:
        async with serving(first(last)) as server, governed(server, monkeypatch) as source:
            await ask(await bound(source))
            await asyncio.gather(*[ask(await bound(source)) for _ in range(3)])
            assert server.arrivals[1] - server.arrivals[0] >= 0.38

    asyncio.run(run())


def test_a_waiting_request_holds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        limiters = RateLimiters(None, 1)
        busy = replace(BUSY, headers={"retry-after": "60"})
        async with (
            serving(first(busy)) as server,
            governed(server, monkeypatch, limiters) as source,
        ):
            refused = asyncio.create_task(ask(await bound(source)))
            while not server.arrivals:
                await asyncio.sleep(0.01)
            for _ in range(3):
                await ask(await bound(source))
            assert not refused.done()
            assert len(server.arrivals) == 4
            assert server.most_in_flight == 1
            refused.cancel()
            await asyncio.gather(refused, return_exceptions=True)

    asyncio.run(run())


def test_a_cap_on_requests_is_kept_by_real_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        limiters = RateLimiters(None, 16, rpm=300)
        async with (
            serving(Answer()) as server,
            governed(server, monkeypatch, limiters) as source,
        ):
            await asyncio.gather(*[ask(await bound(source)) for _ in range(12)])
            # 5 a second, of which one second's may come at once.
            assert server.arrivals[-1] - server.arrivals[0] >= 7 / 5 * 0.9

    asyncio.run(run())


def test_a_cap_on_tokens_learns_from_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        limiters = RateLimiters(None, 16, tpm=12_000)
        async with (
            serving(Answer()) as server,
            governed(server, monkeypatch, limiters) as source,
        ):
            for _ in range(6):
                await ask(await bound(source))
            # 120 tokens each at 200 a second, of which one second's may come at once.
            assert server.arrivals[-1] - server.arrivals[0] >= 1.0

    asyncio.run(run())


def test_a_cancelled_request_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        limiters = RateLimiters(None, 1)
        busy = replace(BUSY, headers={"retry-after": "30"})
        async with (
            serving(first(Answer(latency=30.0), busy)) as server,
            governed(server, monkeypatch, limiters) as source,
        ):
            for held in (1, 0):
                model = await bound(source)
                asking = asyncio.create_task(ask(model))
                await asyncio.sleep(0.3)
                assert limiters.limiter(source.id).in_flight == held
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            assert limiters.limiter(source.id).in_flight == 0
            # What was refused is kept though it was not sent again.
            assert [retry.status for retry in model.retries] == [429]

    asyncio.run(run())


def test_a_stream_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    events = (
        'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
        '[{"index":0,"delta":{"role":"assistant","content":"Done."},"finish_reason":"stop"}]}\n\n'
        "data: [DONE]\n\n"
    )
    stream = Answer(body=events, headers={"content-type": "text/event-stream"})

    async def run() -> None:
        quick = replace(BUSY, headers={"retry-after": "0"})
        async with (
            serving(lambda number: quick if number == 0 else stream) as server,
            governed(server, monkeypatch) as source,
        ):
            model = await bound(source)
            messages = [ModelRequest(parts=[UserPromptPart("hello")])]
            async with model.request_stream(messages, None, ModelRequestParameters()) as response:
                async for _ in response:
                    pass
            assert response.get().text == "Done."
            assert len(model.retries) == 1

    asyncio.run(run())


def test_only_models_behind_an_api_are_governed() -> None:
    assert isinstance(ApiModelSource("openai:gpt-5"), SupportsRateLimit)
    assert not isinstance(ControlSource("hijacked"), SupportsRateLimit)


def test_without_a_governor_the_model_itself_is_bound() -> None:
    async def run(source: ApiModelSource) -> Model:
        return await source.bind(RUN)

    assert isinstance(asyncio.run(run(ApiModelSource("test"))), PydanticTestModel)
    source = ApiModelSource("test")
    source.use_rate_limiter(RateLimiters(None, 4))
    assert isinstance(asyncio.run(run(source)), RetryingModel)


def test_each_run_has_its_own_retries_and_all_share_the_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        quick = replace(BUSY, headers={"retry-after": "0"})
        async with serving(first(quick)) as server, governed(server, monkeypatch) as source:
            one, other = await bound(source), await bound(source)
            await ask(one)
            await ask(other)
            assert (len(one.retries), len(other.retries)) == (1, 0)
            assert one.wrapped is other.wrapped
            assert server.connections == 1

    asyncio.run(run())


def test_a_missing_package_makes_the_model_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ImportError("Please install the `groq` package")

    def fails(provider: str) -> None:
        raise missing

    monkeypatch.setattr("pydantic_ai.providers.infer_provider_class", fails)
    monkeypatch.setattr("pytest_siren.models.api.infer_provider_class", fails)
    monkeypatch.setattr("pytest_siren.models.transport.client.infer_provider_class", fails)
    with pytest.raises(ModelPackageError) as raised:
        asyncio.run(ApiModelSource("groq:x").bind(RUN))
    assert str(raised.value) == "model 'groq:x': Please install the `groq` package"
    assert issubclass(ModelPackageError, ImportError)
    assert issubclass(ModelNameError, ValueError)


def test_runs_that_begin_together_open_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_siren.models import api

    opened: list[str] = []
    real = api.opened

    def counted(name: str) -> AbstractAsyncContextManager[tuple[Model, SequencedTransport | None]]:
        opened.append(name)
        return real(name)

    monkeypatch.setattr(api, "opened", counted)
    monkeypatch.setenv("OPENAI_API_KEY", "key")

    async def run() -> None:
        source = ApiModelSource("openai-chat:x")
        models = await asyncio.gather(*(source.bind(RUN) for _ in range(20)))
        assert len({id(model) for model in models}) == 1
        await source.aclose()

    asyncio.run(run())
    assert opened == ["openai-chat:x"]
