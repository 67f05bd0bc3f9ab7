"""A model API on the loopback that answers by the model's name, in a thread of the tests."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

USAGE = {"prompt_tokens": 50, "completion_tokens": 16, "total_tokens": 66}

Reply: TypeAlias = tuple[int, dict[str, str], Any]
"""Status, headers and body: JSON data, or text that is sent as it is."""
Script: TypeAlias = Callable[[str, int, dict[str, Any]], Reply]
"""From the model, the number of the request on it, from 1, and the request's JSON."""


def good(text: str = "At noon.", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """Return an answer of OpenAI's chat API; ``more`` changes it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "odd"}
    return {**body, "usage": usage, "choices": [choice], **more}


@dataclass
class OddServer:
    """A running server."""

    script: Script
    url: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    """Requests by model."""


@contextmanager
def odd_server(script: Script) -> Iterator[OddServer]:
    """Serve until the context ends."""
    running = OddServer(script)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                model = request["model"]
                running.seen[model] += 1
                status, headers, body = running.script(model, running.seen[model], request)
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            kind = "text/html" if isinstance(body, str) else "application/json"
            for name, value in {"content-type": kind, **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield running
        finally:
            server.shutdown()
            serving.join()
