"""A project as the version before the executors and index files left it: all of it is still read.

``tests/unit/data/earlier_version`` was written by that version, but for the paths in tracebacks: a
session that was interrupted, with two errors and a run that it cancelled, then ``pytest --lf``,
``siren bless`` and ``siren results``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.jobs.reading.read import iter_index, load_config, load_execution, load_result
from pytest_siren.jobs.writing.repair import repair
from tests.acceptance.forks import Forks
from tests.acceptance.project import Project

DATA = Path(__file__).parents[1] / "unit/data/earlier_version"
NAME = "mail_plain_scripted_mail_template_string_2026-11-27_20-17-08"


@pytest.fixture
def left(pytester: pytest.Pytester, forks: Forks) -> Project:
    """The project as it was left."""
    project = Project(pytester, forks, ("-p", "no:randomly"))
    shutil.copytree(DATA / "jobs", project.path / "jobs")
    shutil.copy(DATA / "baseline.jsonl", project.path)
    (project.path / "calm.txt").touch()
    for name, source in {
        "conftest.py": "conftest.txt",
        "evals/eval_mail.yaml": "eval_mail.txt",
        ".pytest_cache/v/siren/session": "note.json",
    }.items():
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / source, project.path / name)
    return project


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def siren(project: Project, *args: str) -> pytest.RunResult:
    return project.python("-m", "pytest_siren", *args)


def results(project: Project) -> list[dict[str, Any]]:
    done = siren(project, "results", "--format", "json")
    assert done.ret == 0, done.stderr.str()
    rows: list[dict[str, Any]] = json.loads(done.stdout.str())
    return rows


def same_figures(rows: list[dict[str, Any]]) -> bool:
    """Whether ``rows`` say what that version said; intervals may differ, and there may be more."""
    before = json.loads((DATA / "results.json").read_text())
    assert len(rows) == len(before)
    return all(
        row[key] == pytest.approx(value)
        for row, known in zip(rows, before, strict=True)
        for key, value in known.items()
        if not key.endswith(("_low", "_high"))
    )


def test_its_records_are_read(left: Project) -> None:
    job = left.path / "jobs" / NAME
    assert load_config(job).job_name == NAME
    entries = list(iter_index(job))
    statuses = [entry.status for entry in entries]
    assert statuses == [
        *["scored"] * 2,
        *["error"] * 2,
        *["scored"] * 2,
        "cancelled",
        *["scored"] * 4,
    ]
    for entry in entries:
        result = load_result(job / entry.path)
        assert (result.status, result.attempt) == (entry.status, entry.attempt)
        assert load_execution(job / entry.path).status == entry.status


def test_its_index_needs_no_repair(left: Project) -> None:
    before = files(left.path / "jobs")
    assert not repair(left.path / "jobs" / NAME).changed
    assert files(left.path / "jobs") == before


def test_its_results_are_the_same(left: Project) -> None:
    assert same_figures(results(left))


def test_lf_finds_it_and_executes_nothing_again(left: Project) -> None:
    before = files(left.path / "jobs")
    result = left.run("--lf")
    assert "recorded: 8 of 8 runs, not executed again" in result.stdout.str()
    result.assert_outcomes(passed=2, failed=6)
    assert not (left.path / "asked.txt").exists()
    assert files(left.path / "jobs") == before
    assert same_figures(results(left))


def test_what_is_missing_is_executed_into_the_same_job(left: Project) -> None:
    job = left.path / "jobs" / NAME
    missing = [entry for entry in iter_index(job) if entry.task_id == "reply:link"]
    for entry in missing:
        shutil.rmtree(job / entry.path)
    result = left.run("--lf")
    assert "recorded: 6 of 8 runs, not executed again" in result.stdout.str()
    assert (left.path / "asked.txt").read_text() == "xx"
    (row,) = results(left)
    assert (row["n_scored"], row["n_jobs"]) == (8, 1)


def test_its_sweep_can_be_resumed_by_its_id(left: Project) -> None:
    (left.path / ".pytest_cache/v/siren/session").unlink()
    result = left.run("--resume", "2026-11-27_20-17-08")
    assert "recorded: 8 of 8 runs, not executed again" in result.stdout.str()
    assert not (left.path / "asked.txt").exists()


def test_its_baseline_file_is_compared_with(left: Project) -> None:
    done = siren(left, "compare", "baseline.jsonl", NAME, "--format", "json")
    assert done.ret == 0, done.stderr.str()
    gate = left.run("--lf", "--baseline", "baseline.jsonl", "--gate", "asr_increase <= 0.5")
    assert "HELD" in gate.stdout.str() or "INCONCLUSIVE" in gate.stdout.str()
