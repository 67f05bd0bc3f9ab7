"""A small OpenAI-compatible server that answers as a test says, and clients of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters

from pytest_siren.models.api import ApiModelSource
from pytest_siren.models.ratelimit.limiter import RateLimiters
from tests.unit.models_sample import RUN

GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Done."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
}


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    status: int = 200
    body: Any = field(default_factory=lambda: GOOD)
    """JSON data, or text or bytes that are sent as they are."""
    headers: Mapping[str, str] = field(default_factory=dict)
    latency: float = 0.0
    reset: bool = False
    """Cut the connection instead."""
    closes: bool = False
    """Close the connection after it."""


def error(status: int, code: str | None, message: str, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": code, "param": None, "code": code}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, names)


BUSY = error(429, "rate_limit_exceeded", "Rate limit reached")


@dataclass
class Server:
    """What the server has seen."""

    answer: Callable[[int], Answer]
    """From the number of the request, from 0."""
    url: str = ""
    arrivals: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.startswith("content-length")
        )
        self.bodies.append(await reader.readexactly(length))
        answer = self.answer(len(self.arrivals))
        self.arrivals.append(time.monotonic())
        self.paths.append(head.split()[1])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(answer.latency)
        self.in_flight -= 1
        if answer.reset:
            writer.transport.abort()
            return False
        body = answer.body
        raw = isinstance(body, str | bytes)
        content = body if isinstance(body, bytes) else (body if raw else json.dumps(body)).encode()
        kind = "text/html" if raw else "application/json"
        headers = {"content-type": kind, "content-length": str(len(content)), **answer.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{lines}\r\n".encode() + content)
        await writer.drain()
        return not answer.closes


@asynccontextmanager
async def serving(answer: Callable[[int], Answer] | Answer) -> AsyncIterator[Server]:
    """Serve on the loopback."""
    server = Server(answer if callable(answer) else lambda number: answer)
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0, backlog=256)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()


@asynccontextmanager
async def governed(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    limiters: RateLimiters | None = None,
    name: str = "openai-chat:gpt-4o-mini",
) -> AsyncIterator[ApiModelSource]:
    """Open a governed source of the model behind ``server``, and close it."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    source = ApiModelSource(name)
    source.use_rate_limiter(limiters or RateLimiters(None, 16))
    try:
        yield source
    finally:
        await source.aclose()


async def bound(source: ApiModelSource) -> Any:
    return await source.bind(RUN)


async def ask(model: Model) -> ModelResponse:
    messages = [ModelRequest(parts=[UserPromptPart("Say hello.")])]
    return await model.request(messages, None, ModelRequestParameters())


class FakeClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def board_path(tmp_path: Path) -> Path:
    return tmp_path / "board"
