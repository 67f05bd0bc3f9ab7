"""However many processes record, ``index.jsonl`` is complete when the session has ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.project import Project

DIES = """
import os

def dies(messages):
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0" and "noon" in last_prompt(messages):
        os.kill(os.getpid(), 9)
    return [TextPart(last_prompt(messages))]
"""


def recorded(job: Path) -> set[str]:
    return {str(path.parent.relative_to(job)) for path in job.glob("*/*/result.json")}


def indexed(job: Path) -> list[str]:
    lines = (job / "index.jsonl").read_text().splitlines()
    return [str(json.loads(line)["path"]) for line in lines]


@pytest.mark.parametrize("args", [[], ["-n2"], ["-n2", "--dist=each"]], ids=" ".join)
def test_the_index_is_whole_and_nothing_else_is_left(project: Project, args: list[str]) -> None:
    project.run("evals", "--runs=3", *args)
    jobs = project.jobs()
    assert len(jobs) == (2 if "--dist=each" in args else 1)
    for job in jobs:
        assert len(indexed(job)) == 6
        assert set(indexed(job)) == recorded(job)
        assert [path.name for path in job.iterdir() if path.name.startswith(".")] == []


def test_what_a_worker_recorded_before_it_died_is_in_it_too(project: Project) -> None:
    project.use_model("dies", DIES)
    project.run("evals", "--runs=3", "-n2", "--concurrency=1")
    (job,) = project.jobs()
    assert len(indexed(job)) == len(set(indexed(job)))
    assert set(indexed(job)) == recorded(job)
    assert not (job / ".index").exists()
