"""Reads the spans that an agent's process exports to the address of its run (OTLP over HTTP)."""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from pytest_siren.evaluation.spans import SpanFacts, SpanLog
from pytest_siren.serving.exchange import RefusedError

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_LARGEST = 64_000_000
"""Bytes of a body that was compressed."""


class Traces:
    """The spans of processes that work on several runs: their traces tell which is whose."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        """Whoever knows it may add spans to any run that is under way."""
        self._logs: dict[str, SpanLog] = {}

    @contextmanager
    def seen(self, trace_id: str, log: SpanLog) -> Iterator[None]:
        """Keep in ``log`` the spans of a trace that arrive within the block."""
        self._logs[trace_id] = log
        try:
            yield
        finally:
            del self._logs[trace_id]

    def add(self, spans: Iterable[tuple[str, SpanFacts]]) -> None:
        """Give each of ``spans`` to its run; those of no run are not kept."""
        for trace_id, facts in spans:
            if (log := self._logs.get(trace_id)) is not None:
                log.add(facts)


def readable() -> bool:
    """Tell whether exports in protobuf, which is the usual form, can be read."""
    try:
        return find_spec("opentelemetry.proto.collector.trace.v1.trace_service_pb2") is not None
    except ModuleNotFoundError:
        return False


def spans_of(body: bytes, kind: str, encoding: str) -> list[tuple[str, SpanFacts]]:
    """Return the spans of an export, each with the id of its trace. Raises ``RefusedError``.

    ``kind`` is the media type of ``body``, and ``encoding`` how it is compressed.
    """
    data = _decompressed(body, encoding)
    try:
        return list(_in_json(json.loads(data)) if kind == JSON else _in_protobuf(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RefusedError(400, f"the export cannot be read: {error}") from error


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise RefusedError(415, f"the encoding {encoding!r} is not known: gzip and deflate are")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        data = decompressor.decompress(body, _LARGEST)
    except zlib.error as error:
        raise RefusedError(400, f"the body is not {encoding}: {error}") from error
    if decompressor.unconsumed_tail:
        raise RefusedError(413, f"the export is larger than {_LARGEST:,} bytes")
    return data


def _in_protobuf(data: bytes) -> Iterator[tuple[str, SpanFacts]]:
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )
    except ImportError as error:
        message = "exports in protobuf need pip install 'pytest-siren[telemetry]'; JSON does not"
        raise RefusedError(415, message) from error
    try:
        request = ExportTraceServiceRequest.FromString(data)
    except Exception as error:  # protobuf's own, which has no base but this
        raise ValueError(str(error)) from error
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield (
                    span.trace_id.hex(),
                    SpanFacts(
                        name=span.name,
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex() or None,
                        started_at=span.start_time_unix_nano,
                        ended_at=span.end_time_unix_nano,
                        attributes={one.key: _of_message(one.value) for one in span.attributes},
                        error=_error(span.status.code, span.status.message),
                    ),
                )


def _of_message(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found: Any = getattr(value, kind) if kind else None
    match kind:
        case "array_value":
            return [_of_message(one) for one in found.values]
        case "kvlist_value":
            return {one.key: _of_message(one.value) for one in found.values}
    return found


def _in_json(document: Any) -> Iterator[tuple[str, SpanFacts]]:
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                status = span.get("status") or {}
                attributes = span.get("attributes", ())
                yield (
                    str(span.get("traceId", "")).lower(),
                    SpanFacts(
                        name=str(span.get("name", "")),
                        span_id=str(span.get("spanId", "")).lower(),
                        parent_id=str(span.get("parentSpanId") or "").lower() or None,
                        started_at=int(span.get("startTimeUnixNano", 0)),
                        ended_at=int(span.get("endTimeUnixNano", 0)),
                        attributes={str(one["key"]): _of_json(one["value"]) for one in attributes},
                        error=_error(status.get("code"), str(status.get("message") or "")),
                    ),
                )


def _of_json(value: Mapping[str, Any]) -> Any:
    for kind, found in value.items():
        match kind:
            case "intValue":
                return int(found)
            case "arrayValue":
                return [_of_json(one) for one in found.get("values", ())]
            case "kvlistValue":
                return {one["key"]: _of_json(one["value"]) for one in found.get("values", ())}
        return found
    return None


def _error(code: Any, message: str) -> str | None:
    return (message or "error") if code in (2, "STATUS_CODE_ERROR") else None
