"""Takes secrets out of spans, and what UTF-8 cannot express, before they leave the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

Clean: TypeAlias = Callable[[str], str]
"""Returns a text without secrets."""


def without_secrets(span: ReadableSpan, clean: Clean) -> ReadableSpan:
    """Return ``span`` with every text of it ``clean``; the same object if nothing changes.

    A lone surrogate, which models and tools may write, would cost the whole batch.
    """
    attributes = _cleaned(span.attributes, clean)
    events = [
        Event(one.name, _cleaned(one.attributes, clean), one.timestamp) for one in span.events
    ]
    said = span.status.description
    description = None if said is None else _clean(said, clean)
    before = [dict(one.attributes or {}) for one in span.events]
    name = portable(span.name)
    same = attributes == dict(span.attributes or {}) and (description, name) == (said, span.name)
    if same and [dict(one.attributes or {}) for one in events] == before:
        return span
    return ReadableSpan(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, description),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def portable(text: str) -> str:
    r"""Return ``text`` with each lone surrogate spelled out, as in ``\ud800``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _cleaned(attributes: Mapping[str, Any] | None, clean: Clean) -> dict[str, Any]:
    return {key: _clean(value, clean) for key, value in (attributes or {}).items()}


def _clean(value: Any, clean: Clean) -> Any:
    if isinstance(value, str):
        return clean(portable(value))
    if isinstance(value, tuple | list):
        return tuple(_clean(one, clean) for one in value)
    return value
