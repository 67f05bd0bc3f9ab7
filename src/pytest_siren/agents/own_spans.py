"""Sees the spans that agents in this process write with a tracer provider of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from opentelemetry.trace import StatusCode, format_span_id, get_tracer_provider

from pytest_siren.evaluation.spans import SpanFacts, SpanLog

_LOG: ContextVar[SpanLog | None] = ContextVar("_LOG", default=None)
"""Of the run that the code belongs to."""
_MOST_OPEN = 100_000
"""Spans that may be open at a time; further ones are not seen."""


class OwnSpans:
    """A span processor, which the process's tracer provider gets when a run begins.

    A span belongs to the run in whose context it begins, or to that of its parent.
    """

    def __init__(self) -> None:
        self._providers: WeakSet[Any] = WeakSet()
        self._open: dict[int, SpanLog] = {}
        self._closed = False

    @contextmanager
    def seen(self, log: SpanLog) -> Iterator[None]:
        """Keep in ``log`` the spans that begin within the block's context."""
        provider: Any = get_tracer_provider()
        if provider not in self._providers:
            self._providers.add(provider)
            provider.add_span_processor(self)
        token = _LOG.set(log)
        try:
            yield
        finally:
            _LOG.reset(token)

    async def aclose(self) -> None:
        """See nothing any more: a provider cannot be rid of a processor."""
        self.shutdown()

    # What OpenTelemetry calls a span processor.

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Note which run ``span`` belongs to."""
        log = _LOG.get()
        if log is None and span.parent is not None:
            log = self._open.get(span.parent.span_id)
        if log is not None and not self._closed and len(self._open) < _MOST_OPEN:
            self._open[span.context.span_id] = log

    def _on_ending(self, span: Any) -> None:
        """A span is about to end."""

    def on_end(self, span: Any) -> None:
        """Keep what ``span`` tells."""
        log = self._open.pop(span.context.span_id, None)
        if log is None:
            return
        failed = span.status.status_code is StatusCode.ERROR
        log.add(
            SpanFacts(
                name=span.name,
                span_id=format_span_id(span.context.span_id),
                parent_id=format_span_id(span.parent.span_id) if span.parent else None,
                started_at=span.start_time or 0,
                ended_at=span.end_time or 0,
                attributes=span.attributes or {},
                error=(span.status.description or "error") if failed else None,
            )
        )

    def shutdown(self) -> None:
        """See nothing any more."""
        self._closed = True
        self._open.clear()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing waits here."""
        return True
