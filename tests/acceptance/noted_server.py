"""A model API in the tests' own process, which notes who asked when.

Each prompt begins with the name of its task, so that executions can be counted where they arrive.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Asked:
    """A request."""

    task: str
    at: float
    """Seconds since the epoch."""


@dataclass
class NotedServer:
    """What the server has seen, and how it answers."""

    latency: float = 0.3
    """Seconds before each answer."""
    asked: list[Asked] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    """While it is not set, requests wait; they are noted."""
    url: str = ""

    def __post_init__(self) -> None:
        self.open.set()

    def counts(self) -> Counter[str]:
        """Return how often each task was executed."""
        return Counter(one.task for one in self.asked)

    def answer(self, task: str) -> bytes:
        self.asked.append(Asked(task, time.time()))
        time.sleep(self.latency)
        self.open.wait(120)
        message = {"role": "assistant", "content": f"{task} is done"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "noted"}
        return json.dumps({**whole, "choices": [choice], "usage": usage}).encode()


@contextmanager
def noted_server() -> Iterator[NotedServer]:
    """Serve while the block runs."""
    noted = NotedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = noted.answer(body["messages"][-1]["content"].split()[0])
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients are killed on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    noted.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield noted
    finally:
        noted.open.set()
        server.shutdown()
        thread.join()
        server.server_close()
