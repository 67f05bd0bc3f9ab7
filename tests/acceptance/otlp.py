"""A collector of OpenTelemetry's protocol over HTTP on the loopback, which keeps what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Collected:
    """What a collector was sent."""

    url: str
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    """Path and body of each."""
    status: int = 200
    """What it answers."""

    @property
    def spans(self) -> list[dict[str, Any]]:
        """All spans, their attributes as a plain mapping."""
        found = []
        for path, body in self.requests:
            if path == "/v1/traces":
                message = MessageToDict(ExportTraceServiceRequest.FromString(body))
                for resource in message["resourceSpans"]:
                    service = attributes(resource["resource"])
                    for scope in resource["scopeSpans"]:
                        found += [
                            {**span, "attributes": attributes(span), "resource": service}
                            for span in scope["spans"]
                        ]
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """All log records, their attributes as a plain mapping."""
        found = []
        for path, body in self.requests:
            if path == "/v1/logs":
                message = MessageToDict(ExportLogsServiceRequest.FromString(body))
                for resource in message["resourceLogs"]:
                    for scope in resource["scopeLogs"]:
                        found += [
                            {**one, "attributes": attributes(one)} for one in scope["logRecords"]
                        ]
        return found

    def runs(self) -> list[dict[str, Any]]:
        """The attributes of the spans of runs, by task."""
        found = [span["attributes"] for span in self.spans if span["name"] == "siren.run"]
        return sorted(found, key=lambda one: one["siren.task_id"])


def attributes(item: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: _value(one["value"]) for one in item.get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:
    [(kind, found)] = value.items()
    match kind:
        case "intValue":
            return int(found)
        case "arrayValue":
            return [_value(one) for one in found.get("values", ())]
    return found


@contextmanager
def collector() -> Iterator[Collected]:
    """Yield a collector that listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collected.requests.append((self.path, body))
            self.send_response(collected.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collected = Collected(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collected
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
