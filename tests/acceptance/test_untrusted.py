"""Text from models, tools, attacks and datasets stays text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside

HOSTILE_IDS = [
    "../../escaped",
    "a/b",
    ":",
    "x" * 300,
    "🦑 squid",
    "same id",
    "same_id",
    "same/id",
    "x:y",
]


@pytest.fixture
def hostile(project: Project) -> Project:
    """A project whose task ids want out of the job's folder."""
    tasks = [
        {
            "id": task_id,
            "prompt": f"task {number} {{v}}",
            "vectors": {"v": ""},
            "evaluators": {"any": {"type": "contains", "value": "task"}},
        }
        for number, task_id in enumerate(HOSTILE_IDS)
    ]
    data = {
        "dataset": {
            "type": "inline",
            "config": {
                "name": "hostile",
                "tasks": tasks,
                "malicious_tasks": [
                    {
                        "id": "../evil",
                        "goal": "g",
                        "evaluators": {"n": {"type": "contains", "value": "zz"}},
                    }
                ],
            },
        },
        "agent": {"config": {"model": "scripted:echo"}},
    }
    (project.path / "evals" / "eval_mail.yaml").write_text(json.dumps(data, ensure_ascii=False))
    return project


@pytest.mark.parametrize("attack", [(), ("--attack=template_string",)])
def test_task_ids_cannot_leave_the_jobs_folder(hostile: Project, attack: tuple[str, ...]) -> None:
    result = hostile.run("evals", *attack)
    result.assert_outcomes(passed=len(HOSTILE_IDS))
    (job,) = hostile.jobs()
    folders = {path.parent.parent for path in job.glob("*/*/result.json")}
    assert {folder.parent for folder in folders} == {job}
    assert all(len(folder.name.encode()) <= 120 for folder in folders)
    suffix = ":../evil" if attack else ""
    assert {found["task_id"] for found in hostile.results()} == {i + suffix for i in HOSTILE_IDS}
    inside = set(job.rglob("*"))
    for folder in [*hostile.path.rglob("*"), hostile.path, *hostile.path.parents]:
        strays = {*folder.glob("*escaped*"), *folder.glob("*evil*")} - inside
        assert strays == set()


def test_every_run_of_hostile_ids_has_its_own_folder(hostile: Project) -> None:
    hostile.run("evals", "--runs=2")
    runs = list(Path(hostile.jobs()[0]).glob("*/*/result.json"))
    assert len(runs) == 2 * len(HOSTILE_IDS)


def test_nothing_untrusted_reaches_the_terminal_raw(hostile: Project) -> None:
    result = hostile.run("evals", "-v", "--attack=template_string", "--model=scripted:escape")
    output = result.stdout.str()
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "\nFAILED evil" not in output


def test_the_answer_of_a_model_cannot_write_lines_into_the_report(project: Project) -> None:
    result = project.run("evals", "--model=scripted:escape")
    assert "\x1b" not in result.stdout.str()
    failures = [line for line in result.outlines if line.startswith("FAILED")]
    assert len(failures) == 2
    assert all("evals/eval_mail.yaml" in line for line in failures)
    assert r"\x1b[2J" in failures[0]


def test_an_attack_text_is_never_a_template_of_the_prompt(project: Project) -> None:
    project.write(
        "evals/attack/sneaky.yaml",
        """
        type: dict
        config:
          attacks:
            "summary:advert": {note: "{{ 7*7 }} {note} ${env:HOME}"}
        """,
    )
    project.run("evals", "--attack=sneaky", "--task-ids=summary:advert")
    (execution,) = project.executions()
    prompt = execution["messages"][0]["parts"][-1]["content"]
    assert prompt.endswith("{{ 7*7 }} {note} ${env:HOME}")
    assert execution["attacks"] == {
        "note": {"content": "{{ 7*7 }} {note} ${env:HOME}", "kind": "str"}
    }
