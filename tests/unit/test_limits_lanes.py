from __future__ import annotations

import asyncio
import time

import httpx2
import pytest

from pytest_siren.models.limits import lanes as lanes_module
from pytest_siren.models.limits.clients import takes_httpx2
from pytest_siren.models.limits.exchange import EXCHANGE, Exchange
from pytest_siren.models.limits.lanes import Lanes
from pytest_siren.models.limits.turns import Turns
from tests.unit.limits_server import Answer, error, serving


async def post(client: httpx2.AsyncClient, url: str) -> httpx2.Response:
    return await client.post(f"{url}/chat/completions", json={"messages": []})


def test_connections_are_kept_and_used_again() -> None:
    async def run() -> None:
        lanes = Lanes()
        async with (
            serving(Answer(latency=0.02)) as server,
            httpx2.AsyncClient(transport=lanes) as client,
        ):
            for _ in range(5):
                assert (await post(client, server.url)).json()["id"] == "chatcmpl-1"
            assert server.connections == 1
            for _ in range(3):
                await asyncio.gather(*(post(client, server.url) for _ in range(8)))
            assert server.connections == lanes.size == 8
            await client.aclose()
            for _ in range(100):
                if not server.open:
                    break
                await asyncio.sleep(0.01)
            assert (server.open, lanes.size) == (0, 0)

    asyncio.run(run())


def test_faults_and_cancellation_leak_no_lane() -> None:
    async def run() -> None:
        answers = [Answer(reset=True), error(500, None, "no"), Answer(latency=0.3), Answer()]
        lanes = Lanes()
        async with (
            serving(lambda number: answers[number % 4]) as server,
            httpx2.AsyncClient(transport=lanes) as client,
        ):
            for _ in range(3):
                with pytest.raises(httpx2.TransportError):
                    await post(client, server.url)
                assert (await post(client, server.url)).status_code == 500
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(post(client, server.url), 0.05)
                assert (await post(client, server.url)).status_code == 200
            assert lanes.size == 1
            # The server notices when it wakes up to answer.
            await asyncio.sleep(0.5)
            assert server.open == 1

    asyncio.run(run())


def test_a_lane_whose_server_hung_up_is_connected_anew() -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(transport=Lanes()) as client:
            closing = Answer(headers={"connection": "close"})
            async with serving(closing) as server:
                for _ in range(3):
                    assert (await post(client, server.url)).status_code == 200
                assert server.connections == 3

    asyncio.run(run())


def test_lanes_that_nobody_needs_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "_IDLE", 0.05)

    async def run() -> None:
        lanes = Lanes()
        async with (
            serving(Answer(latency=0.02)) as server,
            httpx2.AsyncClient(transport=lanes) as client,
        ):
            await asyncio.gather(*(post(client, server.url) for _ in range(6)))
            assert lanes.size == 6
            for _ in range(8):
                await post(client, server.url)
            assert lanes.size == 1

    asyncio.run(run())


def test_each_origin_has_lanes_of_its_own() -> None:
    async def run() -> None:
        async with (
            serving(Answer()) as one,
            serving(Answer()) as other,
            httpx2.AsyncClient(transport=Lanes()) as client,
        ):
            for _ in range(3):
                await post(client, one.url)
                await post(client, other.url)
            assert (one.connections, other.connections) == (1, 1)

    asyncio.run(run())


def test_a_proxy_of_the_environment_is_used_unless_it_is_to_be_passed_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run(no_proxy: str) -> tuple[list[str], list[str]]:
        async with serving(Answer()) as server, serving(Answer()) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
            monkeypatch.setenv("no_proxy", no_proxy)
            async with httpx2.AsyncClient(transport=Lanes()) as client:
                await post(client, server.url)
            return server.paths, proxy.paths

    server, proxy = asyncio.run(run(""))
    assert server == []
    assert proxy[0].startswith("http://127.0.0.1:")
    assert asyncio.run(run("127.0.0.1")) == (["/v1/chat/completions"], [])


def test_the_transport_tells_of_the_answers_headers_and_gives_the_turn_back() -> None:
    async def run() -> None:
        turns = Turns()
        answer = Answer(headers={"X-RateLimit-Remaining-Requests": "7"}, latency=0.2)
        async with (
            serving(answer) as server,
            httpx2.AsyncClient(transport=Lanes()) as client,
        ):
            for _ in range(2):
                exchange = Exchange(await turns.take())
                EXCHANGE.set(exchange)
                asking = asyncio.create_task(post(client, server.url))
                # The next may begin long before the answer is there, and before a turn runs out.
                started = time.monotonic()
                (await asyncio.wait_for(turns.take(), 1.0)).release()
                assert time.monotonic() - started < 0.15
                assert not asking.done()
                await asking
                assert exchange.headers is not None
                assert exchange.headers["x-ratelimit-remaining-requests"] == "7"

    asyncio.run(run())


def test_turns_go_in_order_and_none_is_lost() -> None:
    async def run() -> None:
        turns = Turns()
        order: list[int] = []

        async def one(number: int) -> None:
            turn = await turns.take()
            order.append(number)
            await asyncio.sleep(0)
            turn.release()
            turn.release()

        tasks = [asyncio.create_task(one(number)) for number in range(10)]
        await asyncio.sleep(0)
        for number in (3, 4, 9):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 1, 2, 5, 6, 7, 8]
        # One that is not given back runs out.
        await turns.take()
        started = time.monotonic()
        await asyncio.wait_for(turns.take(), 2.0)
        assert time.monotonic() - started >= 0.04

    asyncio.run(run())


@pytest.mark.parametrize(
    ("provider", "package", "taken"),
    [
        ("openai", "openai", True),
        ("openai-chat", "openai", True),
        ("deepseek", "openai", True),
        ("openrouter", "openai", True),
        ("ollama", "openai", True),
        ("anthropic", "anthropic", True),
        ("google", "google.genai", True),
        ("cohere", "cohere", False),
        ("huggingface", "huggingface_hub", False),
        ("gateway/openai", "openai", False),
    ],
)
def test_who_takes_a_client_of_ours(provider: str, package: str, taken: bool) -> None:
    pytest.importorskip(package)
    assert takes_httpx2(provider) is taken
