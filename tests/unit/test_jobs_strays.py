"""Attempts that only the index, or only the job's folder, knows."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.writing.store import JobStore, RunIds
from pytest_siren.jobs.writing.write import mark
from tests.unit.jobs_sample import CONFIG, attempt, run

RUNS = 5


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of five recorded runs."""
    monkeypatch.chdir(tmp_path)
    store = JobStore.open(tmp_path / "jobs", "nightly", "s", {**CONFIG, "planned_runs": RUNS})
    ids = RunIds()
    for index in range(RUNS):
        one = replace(run(run_index=index, path=store.path), identity=f"run{index}")
        store.record(attempt(info=one, run_id=ids()))
    return store.path


def keep_lines(job: Path, count: int) -> None:
    index = job / "index.jsonl"
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[:count]))


@pytest.mark.parametrize("kept", [0, 3])
def test_runs_that_are_not_in_the_index_are_never_left_out_silently(
    job: Path, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_lines(job, kept)
    line = (
        f"{job}: {RUNS - kept} recorded attempts are not in the index, and not counted: "
        "siren jobs repair nightly adds what is missing, or names what it cannot read"
    )
    read = read_runs([job])
    assert (len(read.runs), read.problems) == (kept, [line])
    relative = line.replace(str(job), "jobs/nightly")
    assert main(["results"]) == (0 if kept else 2)
    assert main(["report", "nightly", "-o", "r.md"]) == (0 if kept else 2)
    assert main(["jobs", "list"]) == 1
    assert main(["bless", "nightly"]) == 2
    said = capsys.readouterr()
    assert said.err.count(relative) == 4
    assert "incomplete" in said.out
    assert main(["jobs", "repair"]) == 0
    assert (len(read_runs([job]).runs), read_runs([job]).problems) == (RUNS, [])


def test_one_run_is_told_in_the_singular(job: Path) -> None:
    keep_lines(job, RUNS - 1)
    assert "1 recorded attempt is not in the index" in read_runs([job]).problems[0]


def test_what_a_process_is_writing_is_on_its_way(job: Path) -> None:
    keep_lines(job, 3)
    mark(job)
    assert read_runs([job]).problems == []


def test_what_a_killed_process_has_written_is_not(job: Path) -> None:
    keep_lines(job, 3)
    path = mark(job)
    path.rename(path.with_name(path.name.replace(str(os.getpid()), "4194999")))
    assert len(read_runs([job]).problems) == 1


def test_records_that_were_removed_are_counted_and_said(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in sorted(job.glob("*/*/"))[:2]:
        shutil.rmtree(folder)
    read = read_runs([job])
    assert (len(read.runs), read.problems) == (RUNS, [])
    assert read.notes == (
        f"{job}: 2 attempts of the index have no record any more and are counted: "
        "siren jobs repair nightly drops them",
    )
    assert main(["jobs", "list"]) == 1
    assert "2 attempts of the index have no record any more" in capsys.readouterr().err


def test_of_an_archived_job_the_index_alone_is_enough(job: Path) -> None:
    for folder in job.glob("*/"):
        shutil.rmtree(folder)
    read = read_runs([job])
    assert (len(read.runs), read.problems, read.notes) == (RUNS, [], ())
