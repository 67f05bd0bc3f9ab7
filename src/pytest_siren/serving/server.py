"""The HTTP server of a process on the loopback interface, for all runs that are served there."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config

from pytest_siren.evaluation.spans import SpanFacts
from pytest_siren.evaluation.world import World
from pytest_siren.serving.anthropic_messages import AnthropicMessage, MessagesRequest
from pytest_siren.serving.connections import Connection, Connections
from pytest_siren.serving.exchange import ModelProtocol, RefusedError, parsed
from pytest_siren.serving.failures import RUN_OVER, body_of, refusal_for
from pytest_siren.serving.mcp import ToolServer
from pytest_siren.serving.openai_chat import ChatCompletion, ChatRequest
from pytest_siren.serving.openai_responses import OpenAIResponse, ResponsesRequest
from pytest_siren.serving.served import LOOPBACK, Served
from pytest_siren.serving.traces import JSON, PROTOBUF, Traces, spans_of

_LARGEST = 50_000_000
"""Bytes of a request to a model, which may hold images; the limit of OpenAI's own endpoint."""
_LARGEST_CALL = 16_000_000
"""Bytes of a request in MCP."""
_AT_ONCE = 128
"""Requests of one run that are answered at the same time."""
_KEPT_ALIVE = 3600
"""Seconds for which a client may keep an idle connection: it is closed with its run, not before."""
_BACKLOG = 2_048
"""Connections that may wait to be accepted."""
_GRACE = 30.0
"""Seconds for which an idle connection outlives the last run that used it."""
_REMEMBERED = 1_000
"""Tokens of ended runs that are told apart from those that never were."""

_TRACES = "v1/traces"
_EXPORTS = (_TRACES, "v1/metrics", "v1/logs")
"""Where OpenTelemetry's exporters send what they have, below the address of a collector."""

_Reader = Callable[[Served, bytes], ModelProtocol]
_READERS: dict[str, _Reader] = {
    "v1/chat/completions": lambda served, body: ChatCompletion(parsed(ChatRequest, body)),
    "v1/responses": lambda served, body: OpenAIResponse(
        parsed(ResponsesRequest, body), served.responses
    ),
    "anthropic/v1/messages": lambda served, body: AnthropicMessage(parsed(MessagesRequest, body)),
}


class Server:
    """Serves runs at a port of its own, each under its token."""

    def __init__(self, listening: socket.socket, connections: Connections, grace: float) -> None:
        """Answers what arrives at ``listening``; ``start`` makes one that does."""
        self._grace = grace
        self._port = listening.getsockname()[1]
        self._connections = connections
        self._tools = ToolServer(_LARGEST_CALL)
        self.traces = Traces()
        self._runs: dict[str, Served] = {}
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, connections: Connections | None = None, grace: float = _GRACE) -> Server:
        """Return a server that listens on a free port, on the running event loop.

        ``grace`` is in seconds: so long after the end of a run its idle connections are kept, for
        an agent that works on several runs may be about to use them in another one.

        It belongs to no run: no context variable of whoever starts it is seen by its tasks. Raises
        ``OSError`` when no port can be opened.
        """
        listening = _listening()
        server = cls(listening, Connections() if connections is None else connections, grace)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = server._serve(listening, ready)
        server._task = asyncio.create_task(work, name="siren-server", context=Context())
        try:
            await ready
        except BaseException:
            server._task.cancel()
            raise
        return server

    @asynccontextmanager
    async def serve(self, world: World) -> AsyncIterator[Served]:
        """Serve ``world`` until the block is left: nothing of the run is open after that."""
        served = Served(world, self._port)
        self._runs[served.token] = served
        try:
            yield served
        finally:
            del self._runs[served.token]
            self._ended.append(served.token)
            for task in tuple(served.tasks):
                task.cancel()
            loop = asyncio.get_running_loop()
            close = self._connections.close_unused
            loop.call_later(self._grace, close, served.clients, loop.time())

    @property
    def traces_url(self) -> str:
        """Where processes that work on several runs export their spans to."""
        return f"http://{LOOPBACK}:{self._port}/{self.traces.token}"

    async def aclose(self) -> None:
        """Close the port and all connections; does nothing the second time."""
        self._closing.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _serve(self, listening: socket.socket, ready: asyncio.Future[None]) -> None:
        """Answer requests until the server is closed, or the event loop ends."""
        config = Config(
            self._answer,
            interface="asgi3",
            proxy_headers=False,
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEPT_ALIVE,
        )
        config.load()
        try:
            async with self._tools.run():
                accepting = await asyncio.get_running_loop().create_server(
                    lambda: Connection(config, self._connections), sock=listening, backlog=_BACKLOG
                )
                ready.set_result(None)
                try:
                    await self._closing.wait()
                finally:
                    # Processes that agents forked may hold it, too: it is closed for all of them.
                    listening.shutdown(socket.SHUT_RDWR)
                    accepting.close()
                    for task in tuple(self._connections.tasks):
                        task.cancel()
                    self._connections.close()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            listening.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as uvicorn calls it."""
        _, token, place = [*scope["path"].split("/", 2), "", ""][:3]
        place = place.rstrip("/")
        try:
            if token == self.traces.token:
                await _take_export(place, scope, receive, send, self.traces.add)
                return
            served = self._run(token)
            served.clients.add(tuple(scope["client"]))
            if len(served.tasks) >= _AT_ONCE:
                busy = f"{_AT_ONCE} requests of this run are being answered already"
                raise RefusedError(429, busy, again=True)
            async with _noted(served):
                await self._of_run(served, place, scope, receive, send)
        except RefusedError as refused:
            await _refuse(refused, place, send)
        except asyncio.CancelledError as error:
            # The run, or the session, has ended.
            await _refuse(refusal_for(error), place, send)

    def _run(self, token: str) -> Served:
        if (served := self._runs.get(token)) is not None:
            return served
        if token in self._ended:
            raise RefusedError(404, RUN_OVER, code="run_over")
        raise RefusedError(404, "no run has this address: its token is wrong", code="wrong_token")

    async def _of_run(
        self, served: Served, place: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        method = scope["method"]
        if place == "mcp":
            await self._tools.answer(served, scope, receive, send)
        elif place in _EXPORTS and method == "POST":

            def add(spans: Iterable[tuple[str, SpanFacts]]) -> None:
                for _, facts in spans:
                    served.world.spans.add(facts)

            await _take_export(place, scope, receive, send, add)
        elif (reader := _READERS.get(place)) is not None and method == "POST":
            body = await _body(scope, receive)
            status, kind, answer = await _present(receive, _exchange(served, reader, body))
            await _send(send, status, kind, answer)
        elif place.startswith(("v1/models", "anthropic/v1/models")) and method == "GET":
            await _send(send, 200, "application/json", _models(served, place))
        else:
            known = ", ".join(["mcp", *_READERS, "v1/models", _TRACES])
            raise RefusedError(404, f"nothing is served at {method} {place!r}, only: {known}")


def _listening() -> socket.socket:
    """Return a socket that listens on a free port of the loopback interface."""
    # Event loops let small packets out at once (TCP_NODELAY) where the protocol is given. Else each
    # answer, which is written in two parts, takes 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.bind((LOOPBACK, 0))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


async def _exchange(served: Served, reader: _Reader, body: bytes) -> tuple[int, str, bytes]:
    """Return status, type and body of the answer. Raises ``RefusedError``."""
    try:
        protocol = reader(served, body)
        ask = protocol.ask
        messages = served.memory.recognize(ask.messages)
        parameters = served.memory.same_tools(ask.parameters)
        response = await served.world.ask(messages, ask.settings, parameters)
        served.memory.answered(messages, response)
        if ask.stream:
            return 200, "text/event-stream", b"".join(protocol.events(response, served.model_name))
        answer = protocol.answer(response, served.model_name)
        return 200, "application/json", json.dumps(answer, ensure_ascii=False).encode()
    except Exception as error:
        raise refusal_for(error) from error


def _models(served: Served, place: str) -> bytes:
    """Return the list of the run's only model, or what is known of it."""
    model = {"id": served.model_name, "object": "model", "created": 0, "owned_by": "pytest-siren"}
    listed = {"object": "list", "data": [model], "has_more": False}
    return json.dumps(listed if place.endswith("/models") else model).encode()


async def _present(
    receive: Receive, work: Awaitable[tuple[int, str, bytes]]
) -> tuple[int, str, bytes]:
    """Return what ``work`` comes to; it is cancelled when its client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
    try:
        return await task
    except asyncio.CancelledError as error:
        # The run ended, or nobody reads this.
        raise refusal_for(error) from error


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _noted(served: Served) -> AsyncIterator[None]:
    task: asyncio.Task[Any] | None = asyncio.current_task()
    assert task is not None
    served.tasks.add(task)
    try:
        yield
    finally:
        served.tasks.discard(task)


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a request. Raises ``RefusedError`` (413) if it is too large."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    size, parts = int(length) if length.isdigit() else 0, []
    while size <= _LARGEST:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the client went away")
        parts.append(message.get("body", b""))
        size = max(size, sum(map(len, parts)))
        if not message.get("more_body", False):
            return b"".join(parts)
    raise RefusedError(413, f"the request is larger than {_LARGEST:,} bytes")


async def _take_export(
    place: str,
    scope: Scope,
    receive: Receive,
    send: Send,
    add: Callable[[Iterable[tuple[str, SpanFacts]]], None],
) -> None:
    """Answer an export of spans; metrics and logs are taken, and not kept."""
    if place not in _EXPORTS or scope["method"] != "POST":
        raise RefusedError(404, f"nothing is served at {place!r}, only: {', '.join(_EXPORTS)}")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await _body(scope, receive)
    if place == _TRACES:
        add(spans_of(body, kind, headers.get("content-encoding", "").strip().lower()))
    # An empty message says that everything was taken.
    await _send(send, 200, *((JSON, b"{}") if kind == JSON else (PROTOBUF, b"")))


async def _refuse(refused: RefusedError, place: str, send: Send) -> None:
    """Send an error, and whether the official clients shall try again."""
    retry = b"true" if refused.again else b"false"
    body = body_of(refused, place)
    await _send(send, refused.status, "application/json", body, (b"x-should-retry", retry))


async def _send(
    send: Send, status: int, kind: str, body: bytes, *headers: tuple[bytes, bytes]
) -> None:
    own = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
