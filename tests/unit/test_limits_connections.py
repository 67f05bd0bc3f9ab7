from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx2
import pytest
import trustme

from pytest_siren.models.transport import client as client_module
from pytest_siren.models.transport.client import connections, takes_httpx2
from pytest_siren.models.transport.sequencing import SendGate, SequencedTransport
from pytest_siren.models.wire import exchange
from pytest_siren.models.wire.exchange import TRACE, Answers, RequestTrace
from tests.unit.limits_server import GOOD, Answer, FakeClock, error, serving
from tests.unit.simulated_time import run_simulated


async def post(client: httpx2.AsyncClient, url: str) -> httpx2.Response:
    return await client.post(f"{url}/chat/completions", json={"messages": []})


def test_connections_are_kept_and_used_again() -> None:
    async def run() -> None:
        async with (
            serving(Answer(latency=0.02)) as server,
            httpx2.AsyncClient(transport=Answers(connections())) as client,
        ):
            for _ in range(5):
                assert (await post(client, server.url)).json()["id"] == "chatcmpl-1"
            assert server.connections == 1
            for _ in range(3):
                await asyncio.gather(*(post(client, server.url) for _ in range(8)))
            assert server.connections == 8
            await client.aclose()
            for _ in range(100):
                if not server.open:
                    break
                await asyncio.sleep(0.01)
            assert server.open == 0

    asyncio.run(run())


def test_faults_and_cancellation_leak_no_connection() -> None:
    async def run() -> None:
        answers = [Answer(reset=True), error(500, None, "no"), Answer(latency=0.3), Answer()]
        async with (
            serving(lambda number: answers[number % 4]) as server,
            httpx2.AsyncClient(transport=Answers(connections())) as client,
        ):
            for _ in range(3):
                with pytest.raises(httpx2.TransportError):
                    await post(client, server.url)
                assert (await post(client, server.url)).status_code == 500
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(post(client, server.url), 0.05)
                assert (await post(client, server.url)).status_code == 200
            # The server notices when it wakes up to answer.
            await asyncio.sleep(0.5)
            assert server.open == 1

    asyncio.run(run())


def test_a_connection_whose_server_hung_up_is_made_anew() -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(transport=Answers(connections())) as client:
            closing = Answer(headers={"connection": "close"})
            async with serving(closing) as server:
                for _ in range(3):
                    assert (await post(client, server.url)).status_code == 200
                assert server.connections == 3

    asyncio.run(run())


def test_connections_that_nobody_needs_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_IDLE", 0.05)

    async def run() -> None:
        async with (
            serving(Answer(latency=0.02)) as server,
            httpx2.AsyncClient(transport=Answers(connections())) as client,
        ):
            await asyncio.gather(*(post(client, server.url) for _ in range(6)))
            assert server.open == 6
            for _ in range(100):
                if not server.open:
                    break
                await asyncio.sleep(0.02)
            assert server.open == 0
            assert (await post(client, server.url)).status_code == 200

    asyncio.run(run())


def test_each_origin_has_connections_of_its_own() -> None:
    async def run() -> None:
        async with (
            serving(Answer()) as one,
            serving(Answer()) as other,
            httpx2.AsyncClient(transport=Answers(connections())) as client,
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
            async with httpx2.AsyncClient(transport=Answers(connections())) as client:
                await post(client, server.url)
            return server.paths, proxy.paths

    server, proxy = asyncio.run(run(""))
    assert server == []
    assert proxy[0].startswith("http://127.0.0.1:")
    assert asyncio.run(run("127.0.0.1")) == (["/v1/chat/completions"], [])


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1", httpx2.ConnectError),
        ("http://no-such-host.invalid", httpx2.ConnectError),
        ("gopher://127.0.0.1:1", httpx2.UnsupportedProtocol),
    ],
)
def test_what_goes_wrong_before_a_connection_is_there(url: str, error: type[Exception]) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(transport=Answers(connections())) as client:
            with pytest.raises(error) as raised:
                await post(client, url)
            assert type(raised.value) is error
            assert str(raised.value)

    asyncio.run(run())


def test_what_goes_wrong_afterwards() -> None:
    hung_up = Answer(headers={"content-length": "9999"}, closes=True)
    answers = [Answer(reset=True), Answer(latency=0.5), hung_up, Answer(body="", status=0)]
    errors = [
        httpx2.RemoteProtocolError,
        httpx2.ReadTimeout,
        httpx2.RemoteProtocolError,
        httpx2.RemoteProtocolError,
    ]

    async def run() -> None:
        async with (
            serving(lambda number: answers[number]) as server,
            httpx2.AsyncClient(transport=Answers(connections()), timeout=0.2) as client,
        ):
            for error in errors:
                with pytest.raises(error) as raised:
                    await post(client, server.url)
                assert type(raised.value) is error

    asyncio.run(run())


def test_certificates_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read, create = [], ssl.create_default_context

    def noted(**which: Any) -> ssl.SSLContext:
        read.append(which["cafile"])
        return create(**which)

    monkeypatch.setattr(ssl, "create_default_context", noted)
    for name in ("one.pem", "other.pem"):
        trustme.CA().cert_pem.write_to_path(tmp_path / name)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
        for _ in range(3):
            connections()
    assert read == [str(tmp_path / "one.pem"), str(tmp_path / "other.pem")]


@pytest.mark.parametrize("trusted", [True, False])
def test_servers_need_a_certificate_that_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: bool
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsafe")
        writer.close()

    async def run() -> None:
        listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        url = f"https://localhost:{listening.sockets[0].getsockname()[1]}/"
        async with listening, httpx2.AsyncClient(transport=Answers(connections())) as client:
            if trusted:
                assert (await client.get(url)).text == "safe"
            else:
                with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(url)

    asyncio.run(run())


def test_bodies_come_in_pieces_and_packed_and_leave_so() -> None:
    said = gzip.compress(b'{"said": "' + b"a" * 300_000 + b'"}')

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        asked = b""
        while not asked.endswith(b"0\r\n\r\n"):
            asked += await reader.read(1000)
        assert b"transfer-encoding: chunked" in head
        assert b"set-cookie" not in head
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nset-cookie: a=b\r\n"
            b"transfer-encoding: chunked\r\nx-asked: %d\r\n\r\n" % asked.count(b"piece")
        )
        for start in range(0, len(said), 100):
            part = said[start : start + 100]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"piece"

    async def run() -> None:
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        async with listening, httpx2.AsyncClient(transport=Answers(connections())) as client:
            response = await client.post(url, content=pieces())
        assert len(response.json()["said"]) == 300_000
        assert response.headers["x-asked"] == "3"
        assert response.reason_phrase == "OK"

    asyncio.run(run())


def test_a_socks_proxy_is_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with serving(Answer()) as server:
            monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
            monkeypatch.setenv("no_proxy", "")
            async with httpx2.AsyncClient(transport=Answers(connections())) as client:
                # What it needs is not installed, or nobody listens there.
                with pytest.raises((ImportError, httpx2.TransportError)) as raised:
                    await post(client, server.url)
            # It does not understand them.
            assert not isinstance(raised.value.__cause__, aiohttp.ClientError)
            assert server.paths == []

    asyncio.run(run())


def test_the_next_request_is_built_when_the_one_before_has_left() -> None:
    async def run() -> None:
        answer = Answer(headers={"X-RateLimit-Remaining-Requests": "7"}, latency=0.2)
        async with serving(answer) as server:
            transport = SequencedTransport(Answers(connections()))
            async with httpx2.AsyncClient(transport=transport) as client:
                for _ in range(2):
                    trace = RequestTrace()
                    TRACE.set(trace)

                    async def ask() -> None:
                        async with transport.turn():
                            await post(client, server.url)

                    asking = asyncio.create_task(ask())
                    await asyncio.sleep(0)
                    # Long before the answer is there.
                    async with asyncio.timeout(1.0), transport.turn():
                        assert not asking.done()
                    await asking
                    assert trace.headers is not None
                    assert trace.headers["x-ratelimit-remaining-requests"] == "7"

    asyncio.run(run())


def test_turns_to_send_go_in_order_and_none_is_lost() -> None:
    async def run() -> None:
        gate = SendGate()
        order: list[int] = []

        async def one(number: int) -> None:
            slot = await gate.acquire()
            order.append(number)
            await asyncio.sleep(0)
            slot.release()
            slot.release()

        tasks = [asyncio.create_task(one(number)) for number in range(10)]
        await asyncio.sleep(0)
        for number in (3, 4, 9):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 1, 2, 5, 6, 7, 8]
        # One that is not given back runs out.
        await gate.acquire()
        loop = asyncio.get_running_loop()
        started = loop.time()
        await gate.acquire()
        assert loop.time() - started == pytest.approx(0.05)

    run_simulated(run())


def test_latency_is_the_providers_without_our_own_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=clock))

    async def answer(request: httpx2.Request) -> httpx2.Response:
        clock.now += 2
        return httpx2.Response(200, json=GOOD)

    transport = SequencedTransport(Answers(httpx2.MockTransport(answer)))

    async def ask(client: httpx2.AsyncClient) -> float | None:
        trace = RequestTrace()
        TRACE.set(trace)
        async with transport.turn():
            await post(client, "http://provider.invalid")
            # The others wait for their turn, and to be handed on.
            clock.now += 10
        return trace.latency

    async def run() -> list[float | None]:
        async with httpx2.AsyncClient(transport=transport) as client:
            return await asyncio.gather(*(ask(client) for _ in range(4)))

    assert asyncio.run(run()) == [2, 2, 2, 2]


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
