"""Published AgentDojo transcripts: how far attacks came, by provenance and by text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("agentdojo", reason="needs the extra agentdojo")

from benchmarks.exposure import Found, classify

GPT, COMMAND = "gpt-4o-2024-05-13", "command-r-plus"


def checked(found: Found) -> Found:
    assert sum(found.stages.values()) == found.runs
    assert found.stages["achieved"] == found.successes
    assert found.reached_successes >= 0.995 * found.successes
    return found


def test_provenance_and_text_agree_on_every_run_of_a_suite(transcripts: Path) -> None:
    found = checked(classify(transcripts / GPT, suites=["banking"]))
    assert found.disagree == []
    assert found.stages == Counter(achieved=90, reached=33, not_reached=18, attempted=3)


@pytest.mark.nightly
def test_provenance_and_text_agree_on_nearly_all_published_runs(transcripts: Path) -> None:
    both = [checked(classify(transcripts / name)) for name in (GPT, COMMAND)]
    assert [one.runs for one in both] == [629, 607]
    assert [one.successes for one in both] == [306, 6]
    disagree = [run for one in both for run in one.disagree]
    # A keyword was added to a file of AgentDojo's data after these runs were recorded, so that a
    # search finds the planted file today that it did not find then.
    assert {(before, after) for _, before, after in disagree} == {("reached", "not_reached")}
    tasks = ("user_task_30", "user_task_31", "user_task_36")
    assert all(
        run.startswith(tuple(f"workspace {task}:" for task in tasks)) for run, *_ in disagree
    )
    assert len(disagree) <= 0.01 * sum(one.runs for one in both)
