"""Spans of an agent's own instrumentation: what is kept of them, and how exports are read."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("mcp")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_siren.evaluation.spans import LONGEST, MOST, SpanFacts, SpanLog, seen_span
from pytest_siren.serving.exchange import RefusedError
from pytest_siren.serving.traces import JSON, PROTOBUF, Traces, spans_of

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
SECOND = 1_000_000_000


def facts(**attributes: Any) -> SpanFacts:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return SpanFacts("a span", SPAN, PARENT, 1_000 * SECOND, 1_001 * SECOND, named)


def test_a_request_to_a_model() -> None:
    seen = seen_span(
        facts(
            gen_ai__operation__name="chat",
            gen_ai__request__model="gpt-5",
            gen_ai__response__model="gpt-5-2026",
            gen_ai__usage__input_tokens=20,
            gen_ai__usage__output_tokens=True,
            gen_ai__output__messages="x" * (LONGEST + 1),
        )
    )
    assert seen is not None
    assert (seen.kind, seen.operation, seen.subject) == ("model", "chat", "gpt-5-2026")
    assert (seen.input_tokens, seen.output_tokens) == (20, None)
    assert (seen.duration, seen.input, seen.error) == (1.0, None, None)
    assert seen.output == "x" * LONGEST + "..."


@pytest.mark.parametrize(
    ("operation", "kind"),
    [("execute_tool", "tool"), ("invoke_agent", "agent"), ("something_new", "other")],
)
def test_kinds(operation: str, kind: str) -> None:
    seen = seen_span(facts(gen_ai__operation__name=operation, gen_ai__tool__name="search"))
    assert seen is not None
    assert seen.kind == kind
    assert seen.subject == ("search" if kind == "tool" else None)


def test_spans_of_anything_else_are_not_kept() -> None:
    log = SpanLog()
    log.add(facts(http__request__method="GET"))
    assert (log.spans, log.left_out) == ([], 0)


def test_the_span_that_is_waited_for_arrives_however_many_came_before() -> None:
    log = SpanLog(awaited=PARENT)
    for number in range(2 * MOST):
        log.add(replace(facts(http__request__method="GET"), parent_id=f"{number:016x}"))
    assert not log.arrived
    log.add(facts(http__request__method="GET"))
    assert log.arrived


def test_a_bounded_number_is_kept() -> None:
    log = SpanLog()
    for _ in range(MOST + 3):
        log.add(facts(gen_ai__operation__name="chat"))
    assert (len(log.spans), log.left_out) == (MOST, 3)


def test_a_span_at_no_time_is_at_the_epoch() -> None:
    seen = seen_span(SpanFacts("x", SPAN, None, 10**30, 0, {"gen_ai.operation.name": "chat"}))
    assert seen is not None
    assert (seen.started_at.year, seen.duration) == (1970, 0.0)


def in_protobuf() -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.start_time_unix_nano, span.end_time_unix_nano = "execute_tool", 5, 9
    span.trace_id, span.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    span.parent_span_id = bytes.fromhex(PARENT)
    span.status.code, span.status.message = 2, "sold out"
    span.attributes.add(key="gen_ai.tool.name").value.string_value = "search"
    span.attributes.add(key="count").value.int_value = 7
    span.attributes.add(key="list").value.array_value.values.add().double_value = 0.5
    nested = span.attributes.add(key="map").value.kvlist_value.values.add()
    nested.key, nested.value.bool_value = "a", True
    return bytes(request.SerializeToString())


def in_json() -> bytes:
    attributes = [
        {"key": "gen_ai.tool.name", "value": {"stringValue": "search"}},
        {"key": "count", "value": {"intValue": "7"}},
        {"key": "list", "value": {"arrayValue": {"values": [{"doubleValue": 0.5}]}}},
        {
            "key": "map",
            "value": {"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}]}},
        },
    ]
    span = {
        "name": "execute_tool",
        "traceId": TRACE.upper(),
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "startTimeUnixNano": "5",
        "endTimeUnixNano": 9,
        "status": {"code": 2, "message": "sold out"},
        "attributes": attributes,
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_both_forms_of_an_export_say_the_same(kind: str, packed: bool) -> None:
    body = in_protobuf() if kind == PROTOBUF else in_json()
    found = spans_of(gzip.compress(body), kind, "gzip") if packed else spans_of(body, kind, "")
    attributes = {"gen_ai.tool.name": "search", "count": 7, "list": [0.5], "map": {"a": True}}
    assert found == [(TRACE, SpanFacts("execute_tool", SPAN, PARENT, 5, 9, attributes, "sold out"))]


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "status"),
    [
        (b"{", JSON, "", 400),
        (b"[]", JSON, "", 400),
        (b'{"resourceSpans": 7}', JSON, "", 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [7]}]}]}]}', JSON, "", 400),
        (b"[" * 100_000, JSON, "", 400),
        (b"\xff\xff", PROTOBUF, "", 400),
        (b"plain", PROTOBUF, "gzip", 400),
        (b"plain", PROTOBUF, "br", 415),
        (gzip.compress(b"0" * 65_000_000), PROTOBUF, "gzip", 413),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, kind: str, encoding: str, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        spans_of(body, kind, encoding)
    assert refused.value.status == status


def test_a_trace_tells_which_run_a_span_is_of() -> None:
    traces, log = Traces(), SpanLog()
    chat = facts(gen_ai__operation__name="chat")
    with traces.seen(TRACE, log):
        traces.add([(TRACE, chat), ("another", chat)])
    traces.add([(TRACE, chat)])
    assert len(log.spans) == 1
