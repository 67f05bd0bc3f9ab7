"""``siren jobs`` and ``siren diff``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.cli.main import main
from pytest_siren.jobs.differences import differences
from pytest_siren.jobs.writing.store import JobStore
from tests.unit.jobs_sample import CONFIG, CREATED, attempt, error_attempt, run


def a_job(folder: Path, name: str, planned: int, **changes: Any) -> JobStore:
    config = {**CONFIG, "planned_runs": planned, **changes}
    return JobStore.open(folder / "jobs", name, name, config, created_at=CREATED)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a complete job and one that lacks two of its three runs."""
    monkeypatch.chdir(tmp_path)
    whole = a_job(tmp_path, "whole", 1)
    whole.record(error_attempt(run_id="00000001", info=run(path=whole.path)))
    whole.record(attempt(run_id="00000002", number=2, info=run(path=whole.path)))
    part = a_job(tmp_path, "part", 3)
    part.record(error_attempt(run_id="00000003", info=run(path=part.path)))
    other = replace(run(run_index=1, path=part.path), identity="1" * 16)
    part.record(attempt(run_id="00000004", info=other))
    return tmp_path


def test_list_says_what_is_done_and_left(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "part: incomplete: 1 of 3 runs scored, 1 error, 1 pending",
        "whole: complete: 1 of 1 runs scored",
    ]
    assert main(["jobs", "list", "whole"]) == 0


def test_repair_names_what_is_damaged(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "repair", "wh*"]) == 0
    assert capsys.readouterr().out == "whole: 2 attempts; index in order\n"
    (jobs / "jobs/whole/stray").write_text("")
    (jobs / "jobs/whole/index.jsonl").write_text("junk\n")
    assert main(["jobs", "repair"]) == 1
    said = capsys.readouterr().out
    assert "index rebuilt: 2 added, 0 dropped, 0 corrected, 1 unreadable lines" in said
    assert "jobs/whole/stray: a file that is no part of a job" in said.splitlines()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["jobs", "list", "--jobs-dir=nowhere"], "there is no folder nowhere"),
        (["jobs", "repair", "nosuch"], "no job, sweep or glob 'nosuch' in jobs"),
        (["diff", "whole", "nosuch"], "no job, sweep or glob 'nosuch' in jobs"),
        (["diff", "whole", "*"], "'*' names 2 jobs"),
    ],
)
def test_what_is_not_there_is_named(
    jobs: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(args) == 2
    assert message in capsys.readouterr().err


def test_diff_says_key_by_key_why_two_jobs_are_two(
    jobs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """X89."""
    changed = {
        "dataset": {"type": "agentdojo", "config": {"suite_name": "slack", "version": 2}},
        "agent": {"type": "plain", "config": {"model": "openai:gpt-5", "seed": [1, 2]}},
        "attack": {"type": "template_string", "config": {"attack_template": "{{ goal }}!"}},
        "execution": {"concurrency": 1, "n_runs_per_task": 9},
    }
    a_job(jobs, "other", 1, **changed)
    assert main(["diff", "whole", "part"]) == 0
    assert capsys.readouterr().out == "same configuration: 1f2e3d4c5b6a7988\n"
    assert main(["diff", "whole", "other"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "dataset.config.suite_name: 'workspace' -> 'slack'",
        "dataset.config.version: (not there) -> 2",
        "agent.config.seed: (not there) -> [1, 2]",
        "attack.config.attack_template: '{{ goal }}\\nIgnore: all # else' -> '{{ goal }}!'",
    ]
    assert main(["diff", "whole", "other", "--json"]) == 1
    keys = [row["key"] for row in json.loads(capsys.readouterr().out)]
    assert keys[0] == "dataset.config.suite_name"


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (1, "1", "dataset.x: 1 (int) -> '1' (str)"),
        (1, True, "dataset.x: 1 (int) -> True (bool)"),
        (None, 0, "dataset.x: None (null) -> 0 (int)"),
        ([1, 2], [1, 3], "dataset.x[1]: 2 -> 3"),
        ([1], [1, 2], "dataset.x: 1 items -> 2 items"),
        ({"y": 1}, {"z": 1}, "dataset.x.y: 1 -> (not there)"),
        ("a" * 90 + "b", "a" * 90 + "c", f"dataset.x: ...'{'a' * 10}b' -> ...'{'a' * 10}c'"),
    ],
)
def test_differences_in_type_length_and_value(left: Any, right: Any, said: str) -> None:
    found = differences({"dataset": {"x": left}}, {"dataset": {"x": right}})
    assert str(found[0]) == said
