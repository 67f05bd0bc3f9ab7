from __future__ import annotations

from typing import Any

import pytest

from pytest_siren.metrics.rates.summary import Reach, SummaryRow, reach, rows
from pytest_siren.payloads import RunReport


def report(task_id: str = "t0", run_index: int = 0, **changes: Any) -> RunReport:
    values: dict[str, Any] = {
        "nodeid": f"evals/eval_x.yaml::{task_id}[{run_index}]",
        "dataset": "agentdojo-workspace",
        "agent": "plain",
        "model": "openai:gpt-5",
        "model_kind": "model",
        "attack": "template_string",
        "job": "/jobs/one",
        "task_id": task_id,
        "run_id": "00000000",
        "run_index": run_index,
        "attempt": 1,
        "status": "scored",
        "benign_score": 1.0,
        "attack_score": 0.0,
        "benign_unknown": None,
        "attack_unknown": None,
        "error_type": None,
        "input_tokens": 100,
        "output_tokens": 10,
        "duration": 2.0,
        "finished_at": 1_000.0,
        "cost": 0.0,
        "exposed": True,
    }
    return RunReport(**{**values, **changes})


def error(task_id: str = "t0", run_index: int = 0, **changes: Any) -> RunReport:
    values = {"status": "error", "benign_score": None, "attack_score": None, "error_type": "Oops"}
    return report(task_id, run_index, **{**values, **changes})


def row(*reports: RunReport, ks: tuple[int, ...] = (1,)) -> SummaryRow:
    [made] = rows(reports, ks)
    return made


def test_one_row_per_dataset_agent_model_attack_and_job() -> None:
    reports = [
        report(),
        report(dataset="b"),
        report(agent="b"),
        report(model="b"),
        report(model_kind="replay"),
        report(attack="b"),
        report(attack=None, attack_score=None),
        report(job="/jobs/two"),
        report("t1"),
    ]
    made = rows(reports, [1])
    assert len(made) == 8
    assert [one.tasks for one in made if one == row(reports[0], reports[-1])] == [2]


def test_rows_come_in_an_order_that_does_not_depend_on_who_finished_first() -> None:
    reports = [report(attack=attack) for attack in ("z", None, "a")]
    made = rows(reports, [1])
    assert [one.attack for one in made] == [None, "a", "z"]
    assert rows(reports[::-1], [1]) == made


def test_no_reports_give_no_rows() -> None:
    assert rows([], [1]) == []


def test_counts_and_rates() -> None:
    made = row(
        report("a", 0, attack_score=1.0),
        report("a", 1, attack_score=0.0),
        report("b", 0, attack_score=0.0, benign_score=0.0),
        report("b", 1, attack_score=0.5),
        error("b", 2),
        error("c", 0, status="cancelled"),
        ks=(1, 2, 3),
    )
    assert (made.tasks, made.runs, made.errors, made.cancelled) == (3, 4, 1, 1)
    assert made.attack_pass[1] is not None
    assert made.attack_pass[1].value == (0.5 + 0.25) / 2
    assert made.attack_pass[1].short == 1
    assert made.attack_pass[2] is not None
    assert made.attack_pass[2].value == 0.5
    assert made.attack_pass[3] is None
    assert made.benign_pass[1] is not None
    assert made.benign_pass[1].value == 0.75
    assert made.asr is not None
    assert made.asr.value == 0.25


def test_a_task_with_errors_only_is_a_task_without_a_rate() -> None:
    made = row(error("a"), error("b"))
    assert (made.tasks, made.runs, made.errors) == (2, 0, 2)
    assert made.attack_pass == {1: None}
    assert made.asr is None


def test_of_several_attempts_the_last_counts_and_tokens_add_up() -> None:
    made = row(
        report("a", attempt=3, attack_score=1.0, finished_at=1_020.0),
        error("a", attempt=1, input_tokens=7, output_tokens=1),
        report("a", attempt=2, attack_score=0.0, finished_at=1_010.0),
        error("b", attempt=1),
        error("b", attempt=2, status="cancelled"),
    )
    assert (made.runs, made.errors, made.cancelled) == (1, 0, 1)
    assert made.attack_pass[1] is not None
    assert made.attack_pass[1].value == 1.0
    assert (made.input_tokens, made.output_tokens) == (407, 41)


def test_wall_time_runs_from_the_first_start_to_the_last_end() -> None:
    made = row(
        report("a", duration=5.0, finished_at=1_005.0),
        report("b", duration=1.0, finished_at=1_004.0),
        report("c", duration=6.5, finished_at=1_006.0),
    )
    assert made.wall_seconds == pytest.approx(6.5)


def test_a_score_that_proves_nothing_is_in_no_rate_and_counted_with_its_reason() -> None:
    unknown: dict[str, Any] = {"attack_score": None, "attack_unknown": "no ground truth"}
    made = row(
        report("a", attack_score=1.0),
        report("b", **unknown),
        report("c", **unknown),
        report("d", benign_score=None, benign_unknown="a control"),
        report("e", benign_score=None),
        error("f", attack_unknown="no ground truth"),
    )
    assert made.attack_unknown == {"no ground truth": 2}
    assert made.benign_unknown == {"a control": 1, "no score": 1}
    assert made.attack_pass[1] is not None
    assert made.attack_pass[1].value == pytest.approx(1 / 3)
    assert made.attack_pass[1].units == 3
    assert made.runs == 5


def test_a_benign_job_has_no_attack_figures() -> None:
    made = row(report(attack=None, attack_score=None), ks=(1, 2))
    assert made.attack_pass == {}
    assert made.asr is None
    assert made.attack_unknown == {}


def test_a_k_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="with a k or q of 1 or more"):
        rows([report()], [0])


def test_reach_counts_couples() -> None:
    unknown: dict[str, Any] = {"attack_score": None, "attack_unknown": "no ground truth"}
    reports = [
        report("hit", 0, attack_score=0.0),
        report("hit", 1, attack_score=1.0),
        report("hit", 2, **unknown),
        report("missed", 0, attack_score=0.5),
        report("missed", 1, **unknown),
        report("nobody knows", 0, **unknown),
        report("nobody knows", 1, **unknown),
        error("broken"),
        report("benign", attack=None, attack_score=None),
    ]
    assert reach(reports) == (1, 1, 1)
    assert reach(reports[::-1]) == Reach(can=1, cannot=1, unknown=1)
    assert reach([]) == (0, 0, 0)


def test_only_the_hijacked_control_under_attack_has_a_reach() -> None:
    hijacked: dict[str, Any] = {"model": "control:hijacked", "model_kind": "control"}
    assert row(report(attack_score=1.0, **hijacked)).reach == (1, 0, 0)
    assert row(report(attack=None, attack_score=None, **hijacked)).reach is None
    assert row(report()).reach is None
