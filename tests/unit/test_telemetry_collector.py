"""How spans and events are sent to a collector, and what is known of those that are lost."""

from __future__ import annotations

import logging
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.sdk.trace.export import SpanExportResult

from pytest_siren.telemetry.collector import LOGS, TRACES, _Sender, address


class Exporter:
    """Does what it is made with."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def export(self, batch: list[Any]) -> Any:
        return self._act()


def refuse() -> SpanExportResult:
    words = "Transient error no route encountered while exporting spans batch, retrying in 1.00s."
    logging.getLogger(__name__).warning(words)
    logging.getLogger(__name__).error("Failed to export spans batch due to timeout")
    return SpanExportResult.FAILURE


def fail() -> SpanExportResult:
    raise ConnectionError("no route")


@pytest.mark.parametrize("endpoint", ["http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"])
def test_the_address_may_be_the_collectors_or_that_of_its_traces(endpoint: str) -> None:
    assert address(endpoint, TRACES) == "http://h:4318/v1/traces"
    assert address(endpoint, LOGS) == "http://h:4318/v1/logs"


@pytest.mark.parametrize(
    ("act", "reason"), [(refuse, "no route"), (fail, "ConnectionError: no route")]
)
def test_the_first_reason_is_kept_and_nothing_is_logged(
    act: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    sender = _Sender(Exporter(act), None)
    sender.export([1, 2])
    assert (sender.delivered, sender.reason) == (0, reason)
    assert caplog.records == []


def test_what_is_taken_is_counted() -> None:
    sender = _Sender(Exporter(lambda: SpanExportResult.SUCCESS), None)
    sender.export([1, 2])
    sender.export([3])
    assert (sender.delivered, sender.reason) == (3, "")
