"""What pytest's reports carry of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_siren.payloads import RunReport
from pytest_siren.session.items.report import to_properties

REPORT = RunReport(
    nodeid="evals/eval_x.yaml::task_1[benign-m-run0]",
    dataset="d",
    agent="plain",
    model="m",
    model_kind="model",
    attack=None,
    job="jobs/j",
    task_id="task_1",
    run_id="00000001",
    run_index=0,
    attempt=1,
    status="scored",
    benign_score=1.0,
    attack_score=None,
    benign_unknown=None,
    attack_unknown=None,
    error_type=None,
    input_tokens=1_000,
    output_tokens=20,
    duration=1.5,
    finished_at=1_000.5,
)
CHANGED: dict[str, Any] = {
    "task_id": "task_2",
    "run_id": "00000002",
    "benign_score": 0.0,
    "duration": 2.5,
}


def test_properties_that_two_runs_share_are_the_same_objects() -> None:
    first = to_properties(REPORT)
    other = replace(REPORT, **CHANGED)
    second = to_properties(other, first)
    assert second == to_properties(other)
    changed = {name for old, (name, _) in zip(first, second, strict=True) if old != (name, _)}
    anew = {new[0] for old, new in zip(first, second, strict=True) if old is not new}
    assert anew == changed == {f"siren_{name}" for name in CHANGED}
