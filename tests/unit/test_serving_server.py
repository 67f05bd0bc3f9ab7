"""The server of a process: its addresses, what it endures, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, NotFoundError

from pytest_siren.evaluation.components import SHARED, SharedParts
from pytest_siren.serving.connections import Connections, most_connections
from pytest_siren.serving.server import Server
from pytest_siren.serving.shared import (
    ServingUnavailableError,
    SharedServer,
    serve,
)
from tests.unit.serving_sample import ScriptedModel, Stand, run, standing, stood, world_of

ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def server_of(shared: SharedParts) -> SharedServer:
    return shared.get(SharedServer, "the server of the runs")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def settled() -> None:
    """Let the event loop do what closing connections takes."""
    for _ in range(5):
        await asyncio.sleep(0.01)


@contextmanager
def few_descriptors(number: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Addresses


def test_each_run_has_addresses_of_its_own_on_one_port() -> None:
    async def test() -> Any:
        SHARED.set(SharedParts())
        async with standing() as one, standing() as other:
            assert one.served.port == other.served.port
            return one.served.environment, other.served.environment

    one, other = run(test())
    differ = {name for name in one if one[name] != other[name]}
    differ.discard("OTEL_EXPORTER_OTLP_ENDPOINT")  # set where exports can be read
    assert differ == {"OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL",
                      "ANTHROPIC_API_KEY", "SIREN_MCP_URL", "SIREN_MCP_COMMAND"}  # fmt: skip
    assert one["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")
    assert len(one["OPENAI_API_KEY"]) == 32
    assert one["SIREN_PROMPT"] == "Read my mail."
    assert one["SIREN_MODEL"] == "scripted"


def test_the_clients_of_the_vendors_find_the_endpoint_by_the_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import anthropic

    async def test(stand: Stand) -> None:
        for name, value in stand.served.environment.items():
            monkeypatch.setenv(name, value)
        async with AsyncOpenAI() as client:
            found = await client.chat.completions.create(**ASK)
        assert found.choices[0].message.content == "hello"
        async with anthropic.AsyncAnthropic() as client:
            message: Any = await client.messages.create(max_tokens=9, **ASK)
        assert message.content[0].text == "hello"

    stood(test)


def test_addresses_are_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet,localhost")

    async def test(stand: Stand) -> dict[str, str]:
        return stand.served.environment

    assert stood(test)["NO_PROXY"] == "intranet,localhost,127.0.0.1"


def test_a_prompt_that_no_program_could_be_started_with_is_left_out() -> None:
    async def test(stand: Stand) -> dict[str, str]:
        object.__setattr__(stand.world._prompt, "text", "x" * 200_000)
        return stand.served.environment

    variables = stood(test)
    assert "SIREN_PROMPT" not in variables
    subprocess.run([sys.executable, "-c", ""], env={**os.environ, **variables}, check=True)


@pytest.mark.parametrize("place", ["v1/chat/completions", "anthropic/v1/messages", "mcp", ""])
def test_a_wrong_token_is_refused_in_the_words_of_the_protocol(place: str) -> None:
    async def test(stand: Stand) -> Any:
        address = f"http://127.0.0.1:{stand.served.port}/wrong/{place}"
        async with httpx.AsyncClient() as client:
            found = await client.post(address, json=ASK)
        assert found.status_code == 404
        assert not stand.model.asked
        return found.json()["error"]["message"]

    assert stood(test) == "no run has this address: its token is wrong"


def test_an_ended_run_is_told_apart_from_one_that_never_was() -> None:
    async def test() -> Any:
        SHARED.set(SharedParts())
        async with standing() as going:
            async with standing() as ended:
                await ended.openai.chat.completions.create(**ASK)
            async with AsyncOpenAI(base_url=ended.served.base_url, api_key="x") as client:
                with pytest.raises(NotFoundError) as refused:
                    await client.chat.completions.create(**ASK)
            await going.openai.chat.completions.create(**ASK)
        return refused.value

    refused = run(test())
    assert refused.code == "run_over"
    assert "the run has ended" in refused.message


def test_a_run_reaches_no_other() -> None:
    async def test() -> Any:
        SHARED.set(SharedParts())
        async with standing() as one, standing() as other:
            stolen = one.served.base_url.replace(one.served.token, "../" + other.served.token)
            async with httpx.AsyncClient() as client:
                found = await client.post(f"{stolen}/chat/completions", json=ASK)
                nested = await client.post(f"{one.served.url}/{other.served.token}/v1/responses")
            await one.openai.chat.completions.create(**ASK)
            return found, nested, len(one.model.asked), len(other.model.asked)

    found, nested, ones, others = run(test())
    assert nested.status_code == 404
    # httpx resolves the dots: who knows the other's token acts in the other's run.
    assert (ones, others) == (1, 1 if found.status_code == 200 else 0)


# What it endures


def test_broken_json_is_refused_and_the_run_goes_on() -> None:
    async def test(stand: Stand) -> list[httpx.Response]:
        async with httpx.AsyncClient() as client:
            found = [await client.post(f"{stand.served.url}/{place}", content=b'{"model": ')
                     for place in ("v1/chat/completions", "v1/responses",
                                   "anthropic/v1/messages")]  # fmt: skip
        await stand.openai.chat.completions.create(**ASK)
        return found

    for found in stood(test):
        assert found.status_code == 400
        assert found.json()["error"]["message"].startswith("the body is not JSON: ")


def test_a_body_of_10_mb_is_read_and_one_of_60_mb_refused() -> None:
    async def test(stand: Stand) -> Any:
        long = [{"role": "user", "content": "x" * 10_000_000}]
        await stand.openai.chat.completions.create(model="m", messages=long)  # type: ignore[arg-type]
        async with httpx.AsyncClient() as client:
            address = f"{stand.served.base_url}/chat/completions"
            with_length = await client.post(address, content=b"x" * 60_000_000)

            async def pieces() -> Any:
                for _ in range(60):
                    yield b"x" * 1_000_000

            in_pieces = await client.post(address, content=pieces())
        return with_length, in_pieces, len(stand.last.messages[0].parts[0].content)

    with_length, in_pieces, length = stood(test)
    assert length == 10_000_000
    for found in (with_length, in_pieces):
        assert found.status_code == 413
        assert found.json()["error"]["message"] == "the request is larger than 50,000,000 bytes"


def test_10_mb_of_headers_or_of_nonsense_close_the_connection_only() -> None:
    async def test(stand: Stand) -> None:
        for sent in (b"GET /" + b"x" * 10_000_000, b"\0" * 1_000):
            reading, writing = await asyncio.open_connection("127.0.0.1", stand.served.port)
            writing.write(sent)
            try:
                await asyncio.wait_for(reading.read(), 5)
            except ConnectionError:
                pass
            writing.close()
        await stand.openai.chat.completions.create(**ASK)

    stood(test)


def test_idle_connections_give_way_before_descriptors_run_out() -> None:
    async def test() -> tuple[int, int]:
        server = await Server.start(Connections(50))
        async with world_of(ScriptedModel()) as world, server.serve(world) as served:
            opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(1_000)]
            await settled()
            async with AsyncOpenAI(base_url=served.base_url, api_key="x") as client:
                await client.chat.completions.create(**ASK)
            kept = len(server._connections)
            for _, writing in opened:
                writing.close()
            await settled()
        await server.aclose()
        return kept, len(server._connections)

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with few_descriptors(min(hard, 4_096)):
        kept, left = run(test())
    assert kept <= 50
    assert left == 0


def test_a_connection_at_work_does_not_give_way() -> None:
    async def test() -> str | None:
        server = await Server.start(Connections(3))
        model = ScriptedModel()
        arrived, goes_on = asyncio.Event(), asyncio.Event()

        async def waits() -> None:
            arrived.set()
            await goes_on.wait()

        model.waits = waits
        async with world_of(model) as world, server.serve(world) as served:
            async with AsyncOpenAI(base_url=served.base_url, api_key="x") as client:
                answer = asyncio.create_task(client.chat.completions.create(**ASK))
                await arrived.wait()
                opened = [await asyncio.open_connection("127.0.0.1", served.port)
                          for _ in range(20)]  # fmt: skip
                await settled()
                goes_on.set()
                found = (await answer).choices[0].message.content
            for _, writing in opened:
                writing.close()
        await server.aclose()
        return found

    assert run(test()) == "hello"


def test_at_most_half_of_the_descriptors_are_for_connections() -> None:
    with few_descriptors(600):
        assert most_connections() == 300


def test_one_run_may_have_128_requests_in_flight() -> None:
    async def test(stand: Stand) -> list[int]:
        goes_on = asyncio.Event()
        stand.model.waits = goes_on.wait
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
            address = f"{stand.served.base_url}/chat/completions"
            tasks = [asyncio.create_task(client.post(address, json=ASK)) for _ in range(140)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 12:
                await asyncio.sleep(0.01)
                done = {task for task in tasks if task.done()}
            goes_on.set()
            found = await asyncio.gather(*tasks)
        assert all(one.headers["x-should-retry"] == "true" for one in found
                   if one.status_code == 429)  # fmt: skip
        return sorted(one.status_code for one in found)

    assert stood(test) == [200] * 128 + [429] * 12


def test_a_request_whose_client_goes_away_is_cancelled() -> None:
    async def test(stand: Stand) -> bool:
        arrived, cancelled = asyncio.Event(), asyncio.Event()

        async def waits() -> None:
            arrived.set()
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        stand.model.waits = waits
        ask = asyncio.create_task(stand.openai.chat.completions.create(**ASK))
        await arrived.wait()
        ask.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)
        return True

    assert stood(test)


def test_a_request_that_is_in_flight_when_the_run_ends_is_refused() -> None:
    async def test(stand: Stand) -> Any:
        arrived = asyncio.Event()

        async def waits() -> None:
            arrived.set()
            await asyncio.sleep(60)

        stand.model.waits = waits
        ask = asyncio.create_task(stand.openai.chat.completions.create(**ASK))
        await arrived.wait()
        await stand.world.close()
        with pytest.raises(NotFoundError) as refused:
            await ask
        return refused.value.message

    assert "the run has ended" in stood(test)


def test_an_answer_is_sent_at_once() -> None:
    async def test(stand: Stand) -> list[float]:
        took = []
        async with httpx.AsyncClient() as client:
            for _ in range(20):
                began = time.perf_counter()
                await client.post(f"{stand.served.base_url}/chat/completions", json=ASK)
                took.append(time.perf_counter() - began)
        return took

    # Nagle's algorithm would keep the second packet of each for 40 ms.
    assert min(stood(test)) < 0.03


# Whose it is


SEEN: ContextVar[str] = ContextVar("SEEN", default="nobody")


def test_what_a_request_does_belongs_to_its_run_and_the_server_to_none() -> None:
    async def test() -> list[str]:
        shared, seen = SharedParts(), list[str]()

        async def one(name: str) -> None:
            SEEN.set(name)
            SHARED.set(shared)
            model = ScriptedModel()

            async def waits() -> None:
                seen.append(SEEN.get())

            model.waits = waits
            async with world_of(model) as world, serve(world) as served:
                async with AsyncOpenAI(base_url=served.base_url, api_key="x") as client:
                    await client.chat.completions.create(**ASK)

        for name in ("first", "second"):
            await asyncio.create_task(one(name))
        await server_of(shared).aclose()
        return seen

    assert run(test()) == ["first", "second"]


def test_the_server_keeps_nothing_of_the_run_that_started_it() -> None:
    class Large:
        pass

    kept: ContextVar[Large] = ContextVar("kept")

    async def one() -> tuple[Server, weakref.ref[Large]]:
        large = Large()
        kept.set(large)
        server = await Server.start(grace=0.1)
        async with world_of(ScriptedModel()) as world, server.serve(world) as served:
            async with AsyncOpenAI(base_url=served.base_url, api_key="x") as client:
                await client.chat.completions.create(**ASK)
        return server, weakref.ref(large)

    async def test() -> bool:
        server, left = await asyncio.create_task(one())
        await asyncio.sleep(0.3)
        gc.collect()
        gone = left() is None
        await server.aclose()
        return gone

    assert run(test())


# Nothing stays


def test_an_idle_connection_outlives_its_run_for_the_next_one() -> None:
    async def test() -> list[int]:
        server = await Server.start(grace=0.3)
        counts = []
        async with httpx.AsyncClient() as http:
            for pause in (0.0, 0.2, 0.6):
                await asyncio.sleep(pause)
                counts.append(len(server._connections))
                async with world_of(ScriptedModel()) as world, server.serve(world) as served:
                    found = await http.post(f"{served.base_url}/chat/completions", json=ASK)
                    assert found.status_code == 200
        await server.aclose()
        return counts

    assert run(test()) == [0, 1, 0]


@pytest.mark.slow
def test_nothing_is_open_after_500_runs() -> None:
    async def one(server: Server, http: httpx.AsyncClient) -> None:
        async with world_of(ScriptedModel()) as world, server.serve(world) as served:
            address = f"{served.base_url}/chat/completions"
            assert (await http.post(address, json=ASK)).status_code == 200
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                    "params": {"name": "read", "arguments": {}}}  # fmt: skip
            kinds = {"accept": "application/json, text/event-stream"}
            found = await http.post(served.mcp_url, json=call, headers=kinds)
            assert found.json()["result"]["content"][0]["text"] == "mail: nothing new"
            # And a connection on which nothing is sent before the agent ends.
            with socket.create_connection(("127.0.0.1", served.port)):
                pass

    async def test() -> Any:
        server = await Server.start(grace=0.2)
        async with httpx.AsyncClient() as http:
            await one(server, http)
            before = descriptors(), threading.active_count(), len(asyncio.all_tasks())
            for _ in range(500):
                await one(server, http)
            gc.collect()
            await asyncio.sleep(0.5)
            after = descriptors(), threading.active_count(), len(asyncio.all_tasks())
            runs, connections = len(server._runs), len(server._connections)
            await server.aclose()
        await settled()
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", server._port))
        return before, after, runs, connections, len(asyncio.all_tasks())

    begun = descriptors()
    before, after, runs, connections, tasks = run(test())
    gc.collect()
    assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)
    assert (runs, connections, tasks) == (0, 0, 1)
    assert descriptors() <= begun


def test_the_port_is_closed_when_the_event_loop_ends_with_a_run_abandoned() -> None:
    async def abandoned(stack: AsyncExitStack) -> int:
        SHARED.set(SharedParts())
        stand = await stack.enter_async_context(standing())
        await stand.openai.chat.completions.create(**ASK)
        return stand.served.port

    stack = AsyncExitStack()
    begun = descriptors()
    port = run(abandoned(stack))  # Cancels the tasks that are left, as the loop of runs does.
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port))
    del stack
    gc.collect()
    assert descriptors() <= begun + 1


def test_a_process_that_an_agent_forked_does_not_keep_the_port() -> None:
    async def test() -> tuple[int, int]:
        server = await Server.start()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        await server.aclose()
        return server._port, child

    port, child = run(test())
    try:
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", port))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_siren.serving.server", None)

    async def test() -> None:
        async with world_of() as world, serve(world):
            pass

    with pytest.raises(ServingUnavailableError, match=r"pip install 'pytest-siren\[serve\]'"):
        run(test())


def test_nothing_is_loaded_before_a_run_is_served() -> None:
    code = (
        "import sys, pytest_siren.session.execution.executor\n"
        "assert not {'mcp', 'uvicorn', 'starlette'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
