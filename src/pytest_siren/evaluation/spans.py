"""What an agent's own OpenTelemetry instrumentation tells of a run, by GenAI's conventions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOST = 200
"""Spans that are kept of one run."""
LONGEST = 4_000
"""Characters that are kept of one text."""
_NAME = 200
"""Characters of a name."""
_INPUTS = ("gen_ai.input.messages", "gen_ai.tool.call.arguments", "tool_arguments")
_OUTPUTS = ("gen_ai.output.messages", "gen_ai.tool.call.result", "tool_response")
"""Attributes that hold what went in and what came out, the conventional ones first."""


@dataclass(frozen=True)
class SpanFacts:
    """A span, of whatever instrumentation and by whatever way it has come."""

    name: str
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str | None
    started_at: int
    """Nanoseconds since the epoch."""
    ended_at: int
    attributes: Mapping[str, Any]
    error: str | None = None
    """What went wrong; ``None`` where nothing did."""


@dataclass(frozen=True)
class SeenSpan:
    """One operation of an agent, as its own instrumentation tells of it."""

    kind: str
    """``model``, ``tool``, ``agent``, or ``other``."""
    name: str
    operation: str
    """As OpenTelemetry's conventions name it, such as ``chat``."""
    span_id: str
    parent_id: str | None
    started_at: datetime
    duration: float
    """Seconds."""
    subject: str | None
    """Name of the model, the tool or the agent."""
    input: str | None
    """Messages or arguments, shortened; ``None`` where the instrumentation leaves them out."""
    output: str | None
    input_tokens: int | None
    output_tokens: int | None
    error: str | None


@dataclass
class SpanLog:
    """The spans of one run, of which a bounded number is kept. Any thread may add some."""

    spans: list[SeenSpan] = field(default_factory=list)
    left_out: int = 0
    """Further ones."""
    awaited: str | None = None
    """Id of the span of which a child is waited for."""
    arrived: bool = False
    """Whether one has arrived, whatever it is about."""

    def add(self, facts: SpanFacts) -> None:
        """Keep what ``facts`` tell of a model, a tool or an agent."""
        if self.awaited is not None and facts.parent_id == self.awaited:
            self.arrived = True
        if (seen := seen_span(facts)) is None:
            return
        if len(self.spans) < MOST:
            self.spans.append(seen)
        else:
            self.left_out += 1


_KINDS = {
    **dict.fromkeys(("chat", "text_completion", "generate_content", "embeddings"), "model"),
    "execute_tool": "tool",
    **dict.fromkeys(("invoke_agent", "create_agent", "invoke_workflow"), "agent"),
}
_SUBJECTS = {
    "model": ("gen_ai.response.model", "gen_ai.request.model"),
    "tool": ("gen_ai.tool.name",),
    "agent": ("gen_ai.agent.name",),
}


def seen_span(facts: SpanFacts) -> SeenSpan | None:
    """Return what ``facts`` tell; ``None`` for a span of anything else."""
    attributes = facts.attributes
    operation = attributes.get("gen_ai.operation.name")
    if not isinstance(operation, str):
        return None
    kind = _KINDS.get(operation, "other")
    return SeenSpan(
        kind=kind,
        name=facts.name[:_NAME],
        operation=operation[:_NAME],
        span_id=facts.span_id,
        parent_id=facts.parent_id,
        started_at=_moment(facts.started_at),
        duration=max(0.0, (facts.ended_at - facts.started_at) / 1e9),
        subject=_text(attributes, _SUBJECTS.get(kind, ()), _NAME),
        input=_text(attributes, _INPUTS, LONGEST),
        output=_text(attributes, _OUTPUTS, LONGEST),
        input_tokens=_count(attributes, "gen_ai.usage.input_tokens"),
        output_tokens=_count(attributes, "gen_ai.usage.output_tokens"),
        error=None if facts.error is None else facts.error[:LONGEST],
    )


def _text(attributes: Mapping[str, Any], names: tuple[str, ...], longest: int) -> str | None:
    for name in names:
        if (value := attributes.get(name)) is not None:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            return text if len(text) <= longest else f"{text[:longest]}..."
    return None


def _count(attributes: Mapping[str, Any], name: str) -> int | None:
    value = attributes.get(name)
    return value if type(value) is int and value >= 0 else None


def _moment(nanoseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)
