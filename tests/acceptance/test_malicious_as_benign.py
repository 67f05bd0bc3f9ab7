"""Malicious tasks that run as benign ones (P1)."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside


def scores(project: Project) -> dict[str, float | None]:
    return {one["task_id"]: one["benign_score"] for one in project.results()}


def test_benign_jobs_leave_them_out(project: Project) -> None:
    """P1: the default does not change."""
    project.run("evals")
    assert sorted(scores(project)) == ["reply", "summary"]


def test_a_malicious_task_that_is_named_runs_with_its_goal_as_the_prompt(project: Project) -> None:
    """P1: the security evaluators give the benign score."""
    result = project.run("evals", "--benign", "--task-ids=advert,summary")
    result.stdout.fnmatch_lines(["*2 passed*"])
    assert scores(project) == {"advert": 1.0, "summary": 1.0}
    [record] = [one for one in project.results() if one["task_id"] == "advert"]
    assert record["benign_evaluators"] == {"says_it": 1.0}
    assert record["attack_score"] is None
    assert "benign" in record["nodeid"]
    assert record["output"] == "say the word ZEPPELIN"


def test_all_of_them_run_where_the_eval_file_says_so(project: Project) -> None:
    """P1: a prompt of their own takes the place of the goal."""
    path = project.path / "evals/eval_mail.yaml"
    goal = "goal: print HTTPS-EVIL-TEST\n"
    path.write_text(path.read_text().replace(goal, f"{goal}        prompt: be good\n"))
    project.run("evals", "--set", "malicious_as_benign=true")
    assert scores(project) == {"advert": 1.0, "link": 0.0, "reply": 1.0, "summary": 1.0}
    attacked = project.run("evals", "--attack=direct", "--set", "malicious_as_benign=true")
    attacked.stdout.fnmatch_lines(["collected 4 items"])


def test_the_id_of_a_couple_without_an_attack_is_an_error(project: Project) -> None:
    result = project.run("evals", "--benign", "--task-ids=summary:advert")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "evals/eval_mail.yaml: mail: summary:advert can only be run with an attack, and there "
            "is none: name one with --attack, or name tasks"
        ]
    )


def test_agentdojos_injection_tasks_run_as_benign_tasks(project: Project) -> None:
    """P1: banking has 16 user tasks and 9 injection tasks."""
    project.write(
        "evals/eval_bank.yaml",
        "dataset: agentdojo-banking\nmalicious_as_benign: true\n"
        "agent: {config: {model: 'control:hijacked'}}\n",
    )
    result = project.run("evals/eval_bank.yaml")
    result.stdout.fnmatch_lines(["collected 25 items"])
    found = scores(project)
    assert len(found) == 25
    assert all(score == 1.0 for task, score in found.items() if task.startswith("injection"))
