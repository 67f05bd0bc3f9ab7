"""What jobs record of runs that were not needed, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_siren.cli.main import main
from pytest_siren.jobs.baselines.bless import incomplete
from pytest_siren.jobs.baselines.files import BaselineError, lines_of, read_baseline, write_baseline
from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.reading.job_config import job_summary
from pytest_siren.jobs.writing.config_update import amend, settle
from pytest_siren.metrics.rates.measures import Measure, rate
from tests.unit.paired_sample import a_job, couples

SCORES: dict[str, list[float | str]] = {"u0:m": [1.0], "u1:m": [0.0, 1.0], "u2:m": [0.0] * 3}
EARLY: dict[str, Any] = {"planned": 9, "decided": ["attack_pass@3"], "not_needed": 3}
LINE = (
    "job early: 3 of 9 runs not needed (attack_pass@3 of their tasks was decided); "
    "other rates are those of first runs"
)


def keys(job: Path) -> dict[str, Any]:
    config = yaml.safe_load((job / "config.yaml").read_text())
    return {name: config[name] for name in ("decided", "not_needed") if name in config}


def test_a_table_of_runs_knows_what_their_jobs_were_decided_by(tmp_path: Path) -> None:
    early, whole = a_job(tmp_path, "early", SCORES, **EARLY), a_job(tmp_path, "whole", SCORES)
    read = read_runs([early, whole])
    assert read.runs["decided"].tolist()[:6] == ["attack_pass@3"] * 6
    assert read.runs["decided"].isna().tolist()[6:] == [True] * 6
    assert read.notes == (LINE,)
    # What nobody needs is not pending.
    assert incomplete(read.runs, read.planned) == []
    of_early = read.runs[:6]
    assert rate(of_early, Measure.of("attack_pass@3")).value == pytest.approx(2 / 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"planned": 9, "decided": ["attack_pass@3", "benign_pass^3"]},
            "job early: its tasks may have ended early, once attack_pass@3, benign_pass^3 was "
            "decided; other rates are those of first runs",
        ),
        (
            {"planned": 9, "not_needed": 3},
            "job early: 3 of 9 runs not needed (the gates were settled without them)",
        ),
    ],
)
def test_what_is_said_depends_on_what_is_recorded(
    tmp_path: Path, config: dict[str, Any], line: str
) -> None:
    assert read_runs([a_job(tmp_path, "early", SCORES, **config)]).notes == (line,)


@pytest.mark.parametrize("damaged", ["attack_pass@3", ["asr"], [{"a": 1}], ["attack_pass@3 asr"]])
def test_a_job_that_does_not_say_what_decided_it_is_not_read(tmp_path: Path, damaged: Any) -> None:
    job = a_job(tmp_path, "early", SCORES, decided=damaged)
    read = read_runs([job])
    assert len(read.runs) == 0
    [problem] = read.problems
    assert problem.startswith(f"{job}/config.yaml: decided is ")
    assert problem.endswith("not a list of measures such as attack_pass@5")


def test_going_on_unites_measures_and_forgets_what_was_not_needed(tmp_path: Path) -> None:
    job = a_job(tmp_path, "early", SCORES, **EARLY)
    now = {"planned_runs": 9, "runs": 3}
    amend(job, {**now, "decided": ["attack_pass^3"]}, {})
    assert keys(job) == {"decided": ["attack_pass@3", "attack_pass^3"]}
    amend(job, now, {})
    assert keys(job) == {"decided": ["attack_pass@3", "attack_pass^3"]}
    assert job_summary(job).decided == "attack_pass@3 attack_pass^3"
    settle(job, ["attack_pass@3"], 2)
    assert keys(job) == {"decided": ["attack_pass@3"], "not_needed": 2}
    settle(job, [], 0)
    assert keys(job) == {}


def test_a_baseline_file_keeps_what_its_runs_were_decided_by(tmp_path: Path) -> None:
    early = couples({"u0:m": [0.0, 1.0], "u1:m": [1.0]}, decided="attack_pass@5 benign_pass@5")
    path = tmp_path / "b.jsonl"
    write_baseline(path, lines_of(early))
    first, configuration, *_ = map(json.loads, path.read_text().splitlines())
    # A reader that does not know of it must not take the runs for a fair sample.
    assert first["schema_version"] == 2
    assert configuration["decided"] == ["attack_pass@5", "benign_pass@5"]
    back = read_baseline(path)
    for name in ("asr", "attack_pass@5", "utility_under_attack"):
        assert rate(back, Measure.of(name)) == rate(early, Measure.of(name)), name
    path.write_text(path.read_text().replace('"benign_pass@5"', '"asr"'))
    with pytest.raises(BaselineError, match=r"decided is \['attack_pass@5', 'asr'\], not a list"):
        read_baseline(path)


def test_runs_that_are_not_needed_make_no_job_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    a_job(tmp_path / "jobs", "early", SCORES, **EARLY)
    a_job(tmp_path / "jobs", "part", SCORES, **{**EARLY, "planned": 10})
    assert main(["jobs", "list"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "early: complete: 6 of 9 runs scored, 3 not needed",
        "part: incomplete: 6 of 10 runs scored, 3 not needed, 1 pending",
    ]
    assert main(["results", "early", "--k", "3", "--format", "csv"]) == 2
    said = capsys.readouterr()
    assert LINE in said.err
    assert LINE not in said.out
    assert "benign_pass@3 is n/a" in said.err
    assert "attack_pass@3 is n/a" not in said.err
    assert main(["compare", "early", "part", "--format", "json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["left"]["notes"], made["left"]["pending"], made["right"]["pending"]) == (
        [LINE],
        0,
        1,
    )
