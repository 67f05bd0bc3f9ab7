"""Sends the spans and events of a process to a collector, and counts what does not arrive."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from pytest_siren.evaluation.isolation import one_line
from pytest_siren.telemetry.redaction import Clean, without_secrets

TRACES, LOGS = "/v1/traces", "/v1/logs"
_TRY = 5.0
"""Seconds in which a batch is sent, further attempts included."""
_ENDING = 5.0
"""Seconds that the last batches have when the process ends."""
_WAITING = 8_192
"""Spans that may wait to be sent, and events; more are lost."""
_BATCH = 256


def address(endpoint: str, signal: str) -> str:
    """Return where the collector at ``endpoint`` takes ``signal``.

    ``endpoint`` is the collector's address, or the one at which it takes traces.
    """
    return endpoint.rstrip("/").removesuffix(TRACES) + signal


_AGAIN = re.compile(r"Transient error (.*) encountered while exporting")


def _cause(message: str) -> str:
    """Return what went wrong, of a message that may also say what the exporter does about it."""
    found = _AGAIN.match(message)
    return found[1] if found else message


class _Sender:
    """An exporter that counts what it delivers, and knows why the rest was not."""

    def __init__(self, exporter: Any, clean: Clean | None) -> None:
        """``clean`` takes secrets out of spans; ``None`` where the batches are no spans."""
        self._exporter = exporter
        self._clean = clean
        self.delivered = 0
        self.reason = ""
        """Why the last batch that failed did so; empty where nobody knows."""

    def export(self, batch: Sequence[Any]) -> Any:
        """Send ``batch``, without secrets."""
        if (clean := self._clean) is not None:
            batch = [without_secrets(span, clean) for span in batch]
        try:
            with self._reasons():
                result = self._exporter.export(batch)
        except Exception as error:  # noqa: BLE001 - the warning at the end says it
            self.reason = self.reason or one_line(error)
            return None
        if result.name == "SUCCESS":
            self.delivered += len(batch)
        return result

    def shutdown(self) -> None:
        """Stop waiting for another attempt."""
        with self._reasons():
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing waits here."""
        return True

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        """Keep what the exporter logs in this thread, which it does instead of raising."""
        sending = threading.get_ident()

        def keep(record: logging.LogRecord) -> bool:
            if record.thread != sending:
                return True
            self.reason = self.reason or _cause(record.getMessage())
            return False

        logger = logging.getLogger(type(self._exporter).__module__)
        logger.addFilter(keep)
        try:
            yield
        finally:
            logger.removeFilter(keep)


@dataclass
class _Signal:
    """Spans, or events, on their way to the collector."""

    noun: str
    url: str
    sender: _Sender
    processor: Any
    taken: int = 0

    def take(self, item: Any, pass_on: Callable[[Any], None]) -> None:
        self.taken += 1
        pass_on(item)

    @property
    def lost(self) -> int:
        """How many of them did not arrive."""
        return self.taken - self.sender.delivered


@dataclass
class Collector:
    """A collector that speaks OTLP over HTTP. What it does not take is lost, and counted."""

    endpoint: str
    clean: Clean

    def __post_init__(self) -> None:
        spans, events = address(self.endpoint, TRACES), address(self.endpoint, LOGS)
        bounds = {"max_queue_size": _WAITING, "max_export_batch_size": _BATCH}
        span_sender = _Sender(OTLPSpanExporter(endpoint=spans, timeout=_TRY), self.clean)
        event_sender = _Sender(OTLPLogExporter(endpoint=events, timeout=_TRY), None)
        self._spans = _Signal(
            "spans", spans, span_sender, BatchSpanProcessor(span_sender, **bounds)
        )
        self._events = _Signal(
            "events", events, event_sender, BatchLogRecordProcessor(event_sender, **bounds)
        )

    # What OpenTelemetry calls a processor, of spans and of log records.

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """A span begins."""

    def _on_ending(self, span: Any) -> None:
        """A span is about to end."""

    def on_end(self, span: ReadableSpan) -> None:
        """Send ``span``, some time later."""
        self._spans.take(span, self._spans.processor.on_end)

    def on_emit(self, log_record: Any) -> None:
        """Send an event, some time later."""
        self._events.take(log_record, self._events.processor.on_emit)

    def shutdown(self) -> None:
        """Nothing: ``close`` is bounded, as this could not be."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing, for the same reason."""
        return True

    def close(self) -> str | None:
        """Send what is left, for a few seconds; return a sentence if something did not arrive."""
        signals = (self._spans, self._events)
        threads = [
            threading.Thread(target=one.processor.shutdown, name="siren-telemetry", daemon=True)
            for one in signals
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _ENDING
        for thread, one in zip(threads, signals, strict=True):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                one.sender.shutdown()
        return self._problem()

    def _problem(self) -> str | None:
        failed = [one for one in (self._spans, self._events) if one.lost]
        if not failed:
            return None
        lost = " and ".join(f"{one.lost:,} of {one.taken:,} {one.noun}" for one in failed)
        reason = next((one.sender.reason for one in failed if one.sender.reason), "")
        return f"{lost} did not reach {failed[0].url}{reason and ': '}{reason}"
