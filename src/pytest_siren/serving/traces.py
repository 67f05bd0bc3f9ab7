"""Reads the spans that an agent's process exports to the address of its run (OTLP over HTTP)."""

from __future__ import annotations

import json
import secrets
import zlib
from base64 import b64decode
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
        document = json.loads(data) if kind == JSON else _of_protobuf(data)
        return list(_spans(document, hexadecimal=kind == JSON))
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


def _of_protobuf(data: bytes) -> Any:
    try:
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )
    except ImportError as error:
        message = "exports in protobuf need pip install 'pytest-siren[telemetry]'; JSON does not"
        raise RefusedError(415, message) from error
    try:
        return MessageToDict(ExportTraceServiceRequest.FromString(data))
    except DecodeError as error:
        raise ValueError(error) from error


def _spans(document: Any, *, hexadecimal: bool) -> Iterator[tuple[str, SpanFacts]]:
    """Yield the spans of an export as protobuf's JSON form has it."""

    def identifier(text: str | None) -> str:
        # OTLP writes ids in hexadecimal digits where protobuf's JSON has base64.
        return (text or "").lower() if hexadecimal else b64decode(text or "").hex()

    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                status = span.get("status") or {}
                failed = status.get("code") in (2, "STATUS_CODE_ERROR")
                facts = SpanFacts(
                    name=str(span.get("name", "")),
                    span_id=identifier(span.get("spanId")),
                    parent_id=identifier(span.get("parentSpanId")) or None,
                    started_at=int(span.get("startTimeUnixNano", 0)),
                    ended_at=int(span.get("endTimeUnixNano", 0)),
                    attributes={
                        str(one["key"]): _value(one.get("value") or {})
                        for one in span.get("attributes", ())
                    },
                    error=(status.get("message") or "error") if failed else None,
                )
                yield identifier(span.get("traceId")), facts


def _value(value: Mapping[str, Any]) -> Any:
    """Return an attribute's value as Python has it."""
    for kind, found in value.items():
        match kind:
            case "intValue":
                return int(found)
            case "arrayValue":
                return [_value(one) for one in found.get("values", ())]
            case "kvlistValue":
                values = found.get("values", ())
                return {one["key"]: _value(one.get("value") or {}) for one in values}
        return found
    return None
