"""The OpenTelemetry span that a run belongs to, where the project traces its sessions."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span


@dataclass(frozen=True)
class Span:
    """A span, by the ids under which collectors know it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""


def current_span() -> Span | None:
    """Return the span that is current here; ``None`` where nothing is traced."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return Span(format_trace_id(context.trace_id), format_span_id(context.span_id))
