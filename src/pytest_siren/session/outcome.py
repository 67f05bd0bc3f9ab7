"""How the outcome of a run becomes the outcome of a pytest item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, TypeAlias

from pytest_siren.hookspecs import RunInfo, RunReport
from pytest_siren.jobs.spent import NOTHING, Spent

if TYPE_CHECKING:
    import pytest

    from pytest_siren.jobs.records import Result

_PROPERTIES = {field.name: f"siren_{field.name}" for field in fields(RunReport)}
Properties: TypeAlias = Sequence[tuple[str, object]]
_FIELDS = {name: field for field, name in _PROPERTIES.items()}


class RunFailedError(Exception):
    """The run was scored, and the item does not pass by that score."""


class RunErrorError(Exception):
    """The run ended in an exception, which is recorded."""


def report_of(
    run: RunInfo, result: Result, others: Spent = NOTHING, *, recorded: bool = False
) -> RunReport:
    """Return what the controller is told of an attempt, from its record.

    ``others`` is what the other attempts at the run took.
    """
    usage, error = result.usage, result.exception_info
    return RunReport(
        nodeid=run.nodeid,
        dataset=run.job.dataset,
        agent=run.job.agent,
        model=run.job.model,
        model_kind=run.job.model_kind,
        attack=run.job.attack,
        job=str(run.job.path),
        task_id=run.task_id,
        run_id=result.run_id,
        run_index=run.run_index,
        attempt=result.attempt,
        status=result.status,
        benign_score=result.benign_score,
        attack_score=result.attack_score,
        benign_unknown=result.benign_unknown,
        attack_unknown=result.attack_unknown,
        error_type=error.exception_type if error else None,
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        duration=result.duration,
        finished_at=result.finished_at.timestamp(),
        cost=result.cost,
        recorded=recorded,
        other_attempts=others.attempts,
        other_input_tokens=others.input_tokens,
        other_output_tokens=others.output_tokens,
        other_cost=others.cost,
        other_unpriced=others.unpriced,
    )


def to_properties(report: RunReport, before: Properties = ()) -> list[tuple[str, object]]:
    """Return ``report`` as user properties, which pytest and xdist carry along.

    Those that are the same as in ``before``, the properties of another run, are the same objects:
    pytest keeps all of them until the end.
    """
    values = vars(report).values()
    if not before:
        return list(zip(_PROPERTIES.values(), values, strict=True))
    return [
        known if known[1] is value else (known[0], value)
        for known, value in zip(before, values, strict=True)
    ]


def from_properties(report: pytest.TestReport) -> RunReport | None:
    """Return the run that a pytest report is about; ``None`` for every other report."""
    if report.when != "call" or len(report.user_properties) < len(_FIELDS):
        return None
    found = {_FIELDS[name]: value for name, value in report.user_properties if name in _FIELDS}
    return RunReport(**found) if len(found) == len(_FIELDS) else None  # type: ignore[arg-type]
