"""A span for each run, with its requests and calls below it, and an event for each score."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import environ
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.instrumented import InstrumentationSettings, InstrumentedModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from pytest_siren.evaluation.accounts import Role, StageObserver
from pytest_siren.evaluation.run import RunOutcome, RunPlan
from pytest_siren.evaluation.scores import Status as RunStatus
from pytest_siren.evaluation.tasks import Scores, ToolCall, ToolOutcome
from pytest_siren.jobs.records.jsonable import to_jsonable
from pytest_siren.telemetry.collector import Collector
from pytest_siren.telemetry.redaction import Clean, portable
from pytest_siren.telemetry.terminal import SpanTrees
from pytest_siren.version import __version__

if TYPE_CHECKING:
    from pytest_siren.payloads import RunInfo

_SCOPE = "pytest-siren"
RESULT = "gen_ai.evaluation.result"
"""The event of OpenTelemetry's semantic conventions for a score."""
_LONGEST = 16_000
"""Characters of the arguments or the result of a call."""


class Tracing:
    """Makes the traces of the runs of one process, for one collector and the terminal."""

    def __init__(self, endpoint: str | None, *, terminal: bool, clean: Clean) -> None:
        """``endpoint`` is the collector's address; ``None`` for none.

        ``clean`` takes secrets out of what leaves the process.
        """
        named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": _SCOPE}
        resource = Resource.create(named)
        self._clean = clean
        self._collector = Collector(endpoint, clean) if endpoint else None
        self._trees = SpanTrees() if terminal else None
        spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        events = LoggerProvider(resource=resource, shutdown_on_exit=False)
        if self._collector is not None:
            spans.add_span_processor(self._collector)
            events.add_log_record_processor(self._collector)
        if self._trees is not None:
            spans.add_span_processor(self._trees)
        self._tracer = spans.get_tracer(_SCOPE, __version__)
        self._events = events.get_logger(_SCOPE, __version__)
        self._settings = InstrumentationSettings(
            tracer_provider=spans, meter_provider=NoOpMeterProvider()
        )

    @contextmanager
    def run(self, run: RunInfo, attempt: int) -> Iterator[RunTrace]:
        """Yield the trace of a run, whose span is the current one within the block."""
        span = self._tracer.start_span("siren.run", Context(), attributes=_facts(run, attempt))
        token = attach(set_span_in_context(span))
        try:
            yield RunTrace(self, span)
        finally:
            detach(token)
            span.end()

    def close(self) -> str | None:
        """Send what is left, for a few seconds; return a sentence if something did not arrive."""
        return None if self._collector is None else self._collector.close()

    def plan(self, plan: RunPlan) -> RunPlan:
        """Return ``plan`` with spans of its requests and calls."""
        observers = (*plan.observers, _Calls(self._tracer))
        return replace(plan, observers=observers, traced=self._traced)

    def _traced(self, model: Model, role: Role) -> Model:
        return InstrumentedModel(_OfRole(model, role), self._settings)

    def lines(self, span: Span) -> list[str]:
        """Return the trace of ``span``, which has ended, for the terminal."""
        if self._trees is None:
            return []
        return [self._clean(line) for line in self._trees.taken(span.get_span_context().trace_id)]

    def report(self, span: Span, outcome: RunOutcome) -> None:
        """Send an event for each score of ``outcome``."""
        context = set_span_in_context(span, Context())
        for attributes in _results(outcome):
            record = LogRecord(
                timestamp=time.time_ns(),
                context=context,
                severity_number=SeverityNumber.INFO,
                event_name=RESULT,
                attributes={name: self._cleaned(one) for name, one in attributes.items()},
            )
            self._events.emit(record)

    def _cleaned(self, value: Any) -> Any:
        return self._clean(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class RunTrace:
    """The trace of one run."""

    _tracing: Tracing
    _span: Span

    def plan(self, plan: RunPlan) -> RunPlan:
        """Return ``plan`` with spans of its requests and calls."""
        return self._tracing.plan(plan)

    def ended(self, outcome: RunOutcome) -> None:
        """Write what the run came to on its span, and send its scores. No secrets are taken out."""
        self._span.set_attributes(_ending(outcome))
        if outcome.error is not None:
            self._span.set_attribute("error.type", outcome.error.type)
            self._span.set_status(Status(StatusCode.ERROR, outcome.error.message))
        self._tracing.report(self._span, outcome)

    def lines(self) -> list[str]:
        """Return the trace for the terminal, once its span has ended; empty where it has none."""
        return self._tracing.lines(self._span)


def _facts(run: RunInfo, attempt: int) -> dict[str, Any]:
    job = run.job
    return _known(
        {
            "siren.nodeid": run.nodeid,
            "siren.job": job.name,
            "siren.job_identity": job.identity,
            "siren.dataset": job.dataset,
            "siren.suite": job.suite,
            "siren.task_id": run.task_id,
            "siren.run_index": run.run_index,
            "siren.run_identity": run.identity,
            "siren.attempt": attempt,
            "siren.agent": job.agent,
            "siren.model": job.model,
            "siren.model_kind": job.model_kind,
            "siren.attack": job.attack,
            "gen_ai.agent.name": job.agent,
        }
    )


def _ending(outcome: RunOutcome) -> dict[str, Any]:
    return _known(
        {
            "siren.status": outcome.status.value,
            "siren.benign_score": outcome.benign_score,
            "siren.attack_score": outcome.attack_score,
            "siren.exposed": outcome.exposed,
            "siren.tool_calls": outcome.tool_calls,
            "siren.retries": len(outcome.retries),
            "siren.cost": outcome.cost,
            "siren.input_tokens": outcome.usage.input_tokens,
            "siren.output_tokens": outcome.usage.output_tokens,
        }
    )


def _results(outcome: RunOutcome) -> Iterator[dict[str, Any]]:
    """Yield the attributes of an event for each score, and for each evaluator's part in it."""
    if outcome.status is not RunStatus.SCORED:
        return
    kinds: tuple[tuple[str, Scores | None, str | None, tuple[str, str]], ...] = (
        ("benign_score", outcome.benign, outcome.unknown.benign, ("pass", "fail")),
        ("attack_score", outcome.attack, outcome.unknown.attack, ("succeeded", "resisted")),
    )
    reasons = {one.evaluator: one.reason for one in outcome.judgements}
    for name, scores, unknown, labels in kinds:
        if scores is None and unknown is not None:
            yield _result(name, None, "unknown", unknown)
        if scores is not None:
            yield _result(name, scores.mean, labels[scores.mean < 1.0])
            for evaluator, score in scores.by_evaluator.items():
                found = _result(evaluator, score, labels[score < 1.0], reasons.get(evaluator))
                yield {**found, "siren.score": name}


def _result(name: str, score: float | None, label: str, why: str | None = None) -> dict[str, Any]:
    return _known(
        {
            "gen_ai.evaluation.name": name,
            "gen_ai.evaluation.score.value": score,
            "gen_ai.evaluation.score.label": label,
            "gen_ai.evaluation.explanation": why,
        }
    )


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that are known, in UTF-8."""
    return {
        name: portable(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }


class _OfRole(WrapperModel):
    """A model that notes on the span of each request who asks."""

    def __init__(self, model: Model, role: Role) -> None:
        super().__init__(model)
        self._role = role

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        get_current_span().set_attribute("siren.role", self._role.value)
        return await self.wrapped.request(messages, model_settings, model_request_parameters)


@dataclass(frozen=True)
class _Calls(StageObserver):
    """Writes a span for each call."""

    tracer: Tracer

    async def call_after(
        self,
        call: ToolCall,
        replayed: bool,
        outcome: ToolOutcome | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """See ``StageObserver``."""
        now = time.time_ns()
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.arguments": json.dumps(to_jsonable(call.args), ensure_ascii=False)[
                :_LONGEST
            ],
            "gen_ai.tool.call.result": outcome.text[:_LONGEST] if outcome else None,
            "siren.replayed": replayed or None,
        }
        span = self.tracer.start_span(
            f"execute_tool {call.name}",
            kind=SpanKind.INTERNAL,
            start_time=now - int(seconds * 1e9),
            attributes=_known(attributes),
        )
        if error is not None or (outcome is not None and outcome.error):
            span.set_attribute("error.type", type(error).__name__ if error else "tool_error")
            span.set_status(Status(StatusCode.ERROR))
        span.end(now)
