"""A fixed-latency, OpenAI-compatible server on the loopback, as cheap as asyncio allows.

``python -m benchmarks.server --latency 0.3`` prints its port and serves until it is killed, or
until its standard input ends where ``--with-parent`` is given. It answers ``POST
/v1/chat/completions`` and ``POST /v1/responses``, without streaming; ``GET /stats`` returns what
``Stats`` holds as JSON, and ``POST /reset`` returns the same and starts anew. ``GET /trace``
returns what ``--trace`` noted of each request, see ``State.trace``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import struct
import sys
import time
from asyncio import SelectorEventLoop
from dataclasses import asdict, dataclass, field
from selectors import SelectSelector

from benchmarks.answers import Answers, http
from benchmarks.faults import Faults, parse


@dataclass
class Stats:
    """What the server has seen. Times are seconds since the epoch, 0 while there is none."""

    requests: int = 0
    """Requests to a model, however they were answered."""
    answered: int = 0
    """Those that got a model's answer."""
    faults: dict[str, int] = field(default_factory=dict)
    """How many met which fault."""
    unknown: int = 0
    """Requests to paths that are not served."""
    abandoned: int = 0
    """Requests whose client was gone before the answer."""
    first_received: float = 0.0
    last_received: float = 0.0
    last_answered: float = 0.0
    in_flight: int = 0
    most_in_flight: int = 0


@dataclass
class State:
    """What all connections share."""

    latency: float
    answers: Answers
    faults: Faults
    stats: Stats = field(default_factory=Stats)
    trace: list[tuple[float, int, str]] | None = None
    """Of each request: when it came, how many were in flight with it, its fault or nothing."""

    def reset(self) -> Stats:
        """Start counting anew and return the counts so far."""
        old, self.stats = self.stats, Stats(in_flight=self.stats.in_flight)
        if self.trace is not None:
            self.trace.clear()
        return old

    def note(self, now: float, fault: str) -> None:
        """Note a request if there is a trace."""
        if self.trace is not None:
            self.trace.append((now, self.stats.in_flight, fault))


class Connection(asyncio.Protocol):
    """One connection, kept open; every request is answered in its own time."""

    transport: asyncio.Transport

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self.state = state
        self.loop = loop
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        received = self.received
        received += data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            head = bytes(received[:end])
            length = _length(head)
            if len(received) < end + 4 + length:
                return
            body = bytes(received[end + 4 : end + 4 + length])
            del received[: end + 4 + length]
            path = head.split(b" ", 2)[1].split(b"?", 1)[0].decode("ascii", "replace")
            self.request(path, body)

    def request(self, path: str, body: bytes) -> None:
        state, stats = self.state, self.state.stats
        answer = state.answers.answer(path, body)
        if answer is None:
            self.other(path)
            return
        now = time.time()
        stats.first_received = stats.first_received or now
        stats.last_received = now
        stats.requests += 1
        fault = state.faults.draw(now - stats.first_received, stats.in_flight)
        if fault is not None:
            stats.faults[fault] = stats.faults.get(fault, 0) + 1
            state.note(now, fault)
            self.fail(fault)
            return
        stats.in_flight += 1
        stats.most_in_flight = max(stats.most_in_flight, stats.in_flight)
        state.note(now, "")
        self.loop.call_later(state.latency, self.reply, answer)

    def reply(self, answer: bytes) -> None:
        stats = self.state.stats
        stats.in_flight -= 1
        if self.transport.is_closing():
            stats.abandoned += 1
            return
        self.transport.write(answer)
        stats.answered += 1
        stats.last_answered = time.time()

    def fail(self, fault: str) -> None:
        if fault == "reset":
            # Without lingering, closing sends a reset instead of an orderly end.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.write(self.state.faults.answers[fault])

    def other(self, path: str) -> None:
        if path == "/stats":
            self.transport.write(http(200, asdict(self.state.stats)))
        elif path == "/reset":
            self.transport.write(http(200, asdict(self.state.reset())))
        elif path == "/trace":
            self.transport.write(http(200, self.state.trace or []))
        else:
            self.state.stats.unknown += 1
            self.transport.write(http(404, {"error": {"message": f"nothing is served at {path}"}}))


def _length(head: bytes) -> int:
    head = head.lower()
    start = head.find(b"\r\ncontent-length:")
    return int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


async def serve(state: State, port: int, with_parent: bool) -> None:
    """Print the port and serve."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(state, loop), "127.0.0.1", port, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    # Nothing here makes reference cycles that matter, and a collection would delay answers.
    gc.freeze()
    gc.disable()
    if with_parent:
        await loop.run_in_executor(None, sys.stdin.buffer.read)
    else:
        await server.serve_forever()


def parse_arguments(arguments: list[str] | None = None) -> tuple[State, int, bool]:
    """Return what to serve, the port, and whether to end with the parent."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    add = parser.add_argument
    add("--latency", type=float, default=0.1, help="seconds before each answer (default: 0.1)")
    add("--port", type=int, default=0)
    add("--calls", default="[]", help="JSON list of [tool, {arguments}]: one call for each turn")
    add("--text", default="Done.", help="the closing words")
    add("--faults", type=parse, default={}, metavar="KIND=SHARE,...", help="429, 500, reset, quota")
    add("--retry-after", type=float, default=1.0, help="seconds, sent with faults of kind 429")
    add("--faults-from", type=float, default=0.0, metavar="SECONDS", help="after the first request")
    add(
        "--faults-for",
        type=float,
        metavar="SECONDS",
        help="no faults later than so long after that",
    )
    add("--max-in-flight", type=int, default=0, help="answer 429 beyond so many at a time")
    add("--seed", type=int, default=0)
    add("--trace", action="store_true", help="note when each request came")
    add("--with-parent", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    faults = Faults(
        shares=options.faults,
        retry_after=options.retry_after,
        seconds=options.faults_for,
        max_in_flight=options.max_in_flight,
        seed=options.seed,
        begin=options.faults_from,
    )
    calls = [(name, given) for name, given in json.loads(options.calls)]
    state = State(options.latency, Answers(calls, options.text), faults)
    if options.trace:
        state.trace = []
    return state, options.port, options.with_parent


def main() -> None:
    """Serve until killed."""
    state, port, with_parent = parse_arguments()
    # The usual selector's timeouts are whole milliseconds, so that answers would come too late.
    with asyncio.Runner(loop_factory=lambda: SelectorEventLoop(SelectSelector())) as runner:
        runner.run(serve(state, port, with_parent))


if __name__ == "__main__":
    main()
