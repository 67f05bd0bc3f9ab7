"""Which transcripts are kept, and that every reader understands compressed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_execution
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.inside


def kept(project: Project) -> dict[str, list[str]]:
    """Return task id to the files of its attempt beside ``result.json``."""
    [job] = project.jobs()
    return {
        path.parent.parent.name: sorted(
            other.name for other in path.parent.iterdir() if other != path
        )
        for path in job.glob("*/*/result.json")
    }


def attempt(project: Project, task: str) -> Path:
    [job] = project.jobs()
    [folder] = (job / task).iterdir()
    return folder


def test_failed_keeps_those_that_did_not_pass(project: Project) -> None:
    project.run("evals", "--siren-transcripts=failed", "--model=scripted:deaf")
    assert kept(project) == {"reply": ["execution.json"], "summary": ["execution.json"]}
    project.run("--lf")
    project.pytester.run("rm", "-r", "jobs")
    project.run("evals", "--siren-transcripts=failed")
    assert kept(project) == {"reply": [], "summary": []}
    with pytest.raises(RecordError, match=r"execution.json was not kept \(see --siren-transcripts"):
        load_execution(attempt(project, "reply"))


def test_none_keeps_none(project: Project) -> None:
    project.run("evals", "--siren-transcripts=none")
    assert kept(project) == {"reply": [], "summary": []}


def test_compressed_transcripts_are_read_like_others(project: Project) -> None:
    project.run("evals", "--siren-compress")
    assert kept(project) == {"reply": ["execution.json.gz"], "summary": ["execution.json.gz"]}
    folder = attempt(project, "summary")
    execution = load_execution(folder)
    assert execution.messages
    [job] = project.jobs()
    replayed = project.run("evals", f"--model=replay:{job}")
    replayed.assert_outcomes(passed=2)
    path = folder / "execution.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError, match="not a whole file of gzip"):
        load_execution(folder)
