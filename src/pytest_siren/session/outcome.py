"""How the outcome of a run becomes the outcome of a pytest item."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from pytest_siren.hookspecs import RunAttempt, RunReport

if TYPE_CHECKING:
    import pytest

_PREFIX = "siren_"


class RunFailedError(Exception):
    """The run was scored, and the item does not pass by that score."""


class RunErrorError(Exception):
    """The run ended in an exception, which is recorded."""


def report_of(attempt: RunAttempt) -> RunReport:
    """Return what the controller is told of ``attempt``."""
    run, outcome = attempt.run, attempt.outcome
    return RunReport(
        nodeid=run.nodeid,
        dataset=run.job.dataset,
        agent=run.job.agent,
        model=run.job.model,
        model_kind=run.job.model_kind,
        attack=run.job.attack,
        job=str(run.job.path),
        task_id=run.task_id,
        run_id=attempt.run_id,
        run_index=run.run_index,
        attempt=attempt.attempt,
        status=outcome.status.value,
        benign_score=outcome.benign_score,
        attack_score=outcome.attack_score,
        benign_unknown=outcome.unknown.benign,
        attack_unknown=outcome.unknown.attack,
        error_type=outcome.error.type if outcome.error else None,
        input_tokens=outcome.usage.input_tokens,
        output_tokens=outcome.usage.output_tokens,
        duration=outcome.duration,
        finished_at=outcome.finished_at.timestamp(),
    )


def to_properties(report: RunReport) -> list[tuple[str, object]]:
    """Return ``report`` as user properties, which pytest and xdist carry along."""
    return [(_PREFIX + name, value) for name, value in asdict(report).items()]


def from_properties(report: pytest.TestReport) -> RunReport | None:
    """Return the run that a pytest report is about; ``None`` for every other report."""
    if report.when != "call":
        return None
    found = {name: value for name, value in report.user_properties if name.startswith(_PREFIX)}
    try:
        return RunReport(**{field.name: found[_PREFIX + field.name] for field in fields(RunReport)})  # type: ignore[arg-type]
    except KeyError:
        return None
