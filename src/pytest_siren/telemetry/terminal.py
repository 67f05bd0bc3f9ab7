"""The spans of a run as a tree of lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_trace_id

from pytest_siren.text.words import printable

_LONGEST = 200
"""Terminal cells of a line."""
_SHOWN = (
    *("siren.task_id", "siren.status", "siren.benign_score", "siren.attack_score", "siren.role"),
    *("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "error.type"),
)
_MOST = 1_000
"""Spans that are shown of a run."""


class SpanTrees:
    """Gathers the spans of each trace until they are asked for."""

    def __init__(self) -> None:
        self._ended: defaultdict[int, list[ReadableSpan]] = defaultdict(list)

    # What OpenTelemetry calls a span processor.

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """A span begins."""

    def _on_ending(self, span: Any) -> None:
        """A span is about to end."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep ``span``."""
        if span.context is not None:
            self._ended[span.context.trace_id].append(span)

    def shutdown(self) -> None:
        """Forget everything."""
        self._ended.clear()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing waits here."""
        return True

    def taken(self, trace_id: int) -> list[str]:
        """Return a line for each span of a trace, those below another one indented."""
        spans = self._ended.pop(trace_id, [])
        shown = [f"trace {format_trace_id(trace_id)}", *_lines(spans[-_MOST:])]
        if len(spans) > _MOST:
            shown.append(f"({len(spans) - _MOST:,} more spans)")
        return shown


def _lines(spans: Sequence[ReadableSpan]) -> Iterator[str]:
    """Yield the lines of ``spans``, each below its parent, by the time of their beginning."""
    known = {span.context.span_id for span in spans if span.context is not None}
    below: defaultdict[int | None, list[ReadableSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda one: one.start_time or 0):
        parent = span.parent.span_id if span.parent is not None else None
        below[parent if parent in known else None].append(span)
    open_ = [(1, span) for span in reversed(below[None])]
    while open_:
        depth, span = open_.pop()
        yield _line(span, depth)
        if span.context is not None:
            open_ += [(depth + 1, one) for one in reversed(below[span.context.span_id])]


def _line(span: ReadableSpan, depth: int) -> str:
    seconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    attributes = span.attributes or {}
    facts = [f"{key.rpartition('.')[2]}={attributes[key]}" for key in _SHOWN if key in attributes]
    failed = span.status.status_code is StatusCode.ERROR
    if failed and (said := span.status.description):
        facts.append(said)
    text = " ".join([span.name, f"{seconds:.3f} s", *facts])
    return f"{'  ' * depth}{printable(text, _LONGEST)}"
