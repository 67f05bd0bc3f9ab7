"""Baseline files: what they hold, and that reading gives the same table of runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pytest_siren.jobs.baselines.baseline import load_baseline
from pytest_siren.jobs.baselines.files import (
    BaselineError,
    default_name,
    lines_of,
    read_baseline,
    write_baseline,
)
from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.metrics.compare.paired import increase
from pytest_siren.metrics.rates.measures import Measure, rate
from tests.unit.jobs_sample import CONFIG, CREATED, attempt, error_attempt, run
from tests.unit.paired_sample import couples

SCORES: dict[str, list[float | str | None]] = {
    "u1:m0": [1.0, "error", None],
    "u0:m0": [0.25, "cancelled"],
}
KEPT = ["dataset", "suite", "agent", "model", "model_kind", "attack", "identity", "task_id"]
KEPT += ["benign_task", "malicious_task", "run_index", "status", "benign_score", "attack_score"]


def written(path: Path, runs: pd.DataFrame) -> Path:
    write_baseline(path, lines_of(runs))
    return path


def test_the_same_runs_come_back(tmp_path: Path) -> None:
    runs = couples(SCORES, suite="s")
    back = read_baseline(written(tmp_path / "b.jsonl", runs))
    assert set(back["job"]) == {str(tmp_path / "b.jsonl")}
    order = ["task_id", "run_index"]
    expected = runs.sort_values(order)[KEPT].astype(object).reset_index(drop=True)
    pd.testing.assert_frame_equal(back[KEPT].astype(object), expected)
    assert rate(back, Measure.of("asr")) == rate(runs, Measure.of("asr"))


def test_the_file_is_one_line_per_run_in_order_and_depends_on_nothing_else(tmp_path: Path) -> None:
    runs = couples(SCORES)
    first = written(tmp_path / "a.jsonl", runs).read_text()
    shuffled = runs.iloc[::-1].assign(job=pd.Categorical(["elsewhere"] * len(runs)), duration=9.0)
    assert written(tmp_path / "b.jsonl", shuffled).read_text() == first
    lines = [json.loads(line) for line in first.splitlines()]
    assert lines[0] == {"baseline": "pytest-siren", "schema_version": 1}
    assert lines[1]["dataset"] == "d"
    assert lines[2] == {
        "configuration": 0,
        "task": "u0:m0",
        "run": 0,
        "status": "scored",
        "benign_score": 0.75,
        "attack_score": 0.25,
    }
    assert [(line["task"], line["run"]) for line in lines[3:]] == [
        ("u0:m0", 1),
        ("u1:m0", 0),
        ("u1:m0", 1),
        ("u1:m0", 2),
    ]
    assert "jobs/j" not in first


def test_the_reference_explains_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/baseline.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert explained == {
        key for line in lines_of(couples(SCORES, decided="attack_pass@5")) for key in line
    }


def test_one_score_changed_is_one_line_changed(tmp_path: Path) -> None:
    before = written(tmp_path / "a.jsonl", couples({"u0:m0": [0.0], "u1:m0": [0.0]})).read_text()
    after = written(tmp_path / "b.jsonl", couples({"u0:m0": [0.0], "u1:m0": [1.0]})).read_text()
    assert len(set(before.splitlines()) ^ set(after.splitlines())) == 2


def test_hostile_names_stay_data(tmp_path: Path) -> None:
    task = "u\x1b[2J\u202e\n../:m"
    path = written(tmp_path / "b.jsonl", couples({task: [0.0]}))
    assert path.read_bytes().isascii()
    assert b"\x1b" not in path.read_bytes()
    assert read_baseline(path)["task_id"].tolist() == [task]
    name = default_name({"dataset": "../../x", "attack": None, "model": "openai:gpt/5"})
    assert name == "x_benign_openai_gpt_5.baseline.jsonl"


def test_two_jobs_of_one_configuration_are_refused() -> None:
    runs = couples({"u0:m0": [0.0]})
    twice = pd.concat([runs, runs])
    with pytest.raises(BaselineError, match=r"both hold run 0 of u0:m0: bless one of them"):
        lines_of(twice)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [], "not a baseline file"),
        (lambda lines: ["dataset: inline"], "b.jsonl:1: not JSON"),
        (lambda lines: ["{}"], "not a baseline file"),
        (lambda lines: [lines[0].replace("1", "3"), *lines[1:]], "schema_version is 3"),
        (lambda lines: [*lines[:2], "[1]"], "b.jsonl:3: not a mapping"),
        (lambda lines: [lines[0], lines[2]], "b.jsonl:2: no configuration 0 precedes it"),
        (
            lambda lines: [lines[0], lines[1].replace('"d"', '["d"]'), lines[2]],
            r"b.jsonl:2: the configuration's dataset is \['d'\], not a text",
        ),
        (
            lambda lines: [lines[0], lines[1].replace('"plain"', "null"), lines[2]],
            "the configuration's agent is None, not a text",
        ),
        (lambda lines: [*lines, lines[-1]], "b.jsonl:4: run 0 of u0:m0 occurs twice"),
        (lambda lines: [*lines[:2], lines[2].replace("scored", "won")], "unknown status 'won'"),
        (lambda lines: [*lines[:2], lines[2].replace("0.25", "7")], "attack_score 7 is no score"),
        (lambda lines: [*lines[:2], lines[2].replace("scored", "error")], "no score from 0 to 1"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    path = written(tmp_path / "b.jsonl", couples({"u0:m0": [0.25]}))
    path.write_text("\n".join(spoil(path.read_text().splitlines())))
    with pytest.raises(BaselineError, match=message):
        read_baseline(path)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """The folder of jobs, with one of a scored run and a crashed one."""
    config = {**CONFIG, "planned_runs": 2}
    store = JobStore.open(tmp_path / "jobs", "first", "first", config, created_at=CREATED)
    store.record(attempt(run_id="00000002", info=run(path=store.path)))
    other = replace(run("user_task_1:injection_task_1", path=store.path), identity="1" * 16)
    store.record(error_attempt(run_id="00000003", info=other))
    return tmp_path / "jobs"


def test_a_job_and_its_file_are_the_same_baseline(jobs: Path) -> None:
    base = jobs.parent
    of_job = load_baseline("first", jobs, base)
    written(base / "kept/x.baseline.jsonl", of_job)
    for target in ("kept/x.baseline.jsonl", "kept", str(base / "kept")):
        found = increase(load_baseline(target, jobs, base), of_job, Measure.of("asr"))
        assert (found.pairs, found.left_out) == (1, 1)


def test_several_files_of_a_folder_are_one_baseline(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / f"kept/{name}.baseline.jsonl", couples(SCORES, dataset=name))
    runs = load_baseline("kept", tmp_path, tmp_path)
    assert (len(runs), set(runs["dataset"])) == (10, {"a", "b"})


def test_what_cannot_be_a_baseline_says_why(jobs: Path) -> None:
    base = jobs.parent
    with pytest.raises(BaselineError, match=r"no job, sweep .* 'nosuch' in .*no baseline file"):
        load_baseline("nosuch", jobs, base)
    written(base / "none.jsonl", couples({}))
    with pytest.raises(BaselineError, match=r"'none.jsonl' holds no run"):
        load_baseline("none.jsonl", jobs, base)
    with (jobs / "first/index.jsonl").open("a") as index:
        index.write("junk\n")
    with pytest.raises(BaselineError, match=r"parts of it are unreadable: .*index.jsonl:3"):
        load_baseline("first", jobs, base)
