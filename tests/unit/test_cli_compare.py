"""``siren compare``: what it prints, and how it exits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pytest_siren.cli.main import main
from tests.unit.paired_sample import a_job

Capture = pytest.CaptureFixture[str]


def scores(rate: float, seed: int, count: int = 60) -> dict[str, list[float | str]]:
    random = np.random.default_rng(seed)
    return {f"u{i}:m{i % 4}": [float(random.random() < rate)] for i in range(count)}


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs of a good model, of a bad one with crashes, and of another dataset."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "jobs"
    a_job(folder, "good", {**scores(0.1, 1), "old:m0": [0.0]})
    bad = {**scores(0.6, 2), "new:m0": [1.0], "u0:m0": ["error"], "u1:m1": ["cancelled"]}
    agent = {"type": "plain", "config": {"model": "bad"}}
    a_job(folder, "bad", bad, planned=70, agent=agent)
    a_job(folder, "other", scores(0.1, 1), dataset={"type": "inline", "config": {"name": "chat"}})
    return folder


def out(capsys: Capture, *args: str) -> tuple[int, str, str]:
    clustered = any(one.startswith("--cluster") for one in args)
    code = main(["compare", *args, *(() if clustered else ("--cluster=couple",))])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_worse_side_is_told_with_all_that_speaks_for_it(jobs: Path, capsys: Capture) -> None:
    """E45-E49, E72-E76."""
    code, text, _ = out(capsys, "good", "bad")
    assert code == 1
    lines = text.splitlines()
    assert lines[0] == (
        "A: good (1 job): 61 runs; dataset mail; agent plain; model test; attack direct"
    )
    assert lines[1].startswith("B: bad (1 job): 61 runs, 1 in error, 1 cancelled, 9 pending;")
    assert lines[2:4] == [
        "configuration:",
        "  agent.config.model: 'test' -> 'bad'",
    ]
    assert "asr: 58 pairs scored on both sides" in lines
    assert "  set apart: 2 pairs (B: 1 in error, B: 1 cancelled)" in lines
    assert "  only in A: 1 run: 1 task, as old:m0" in lines
    assert "  only in B: 1 run: 1 task, as new:m0" in lines
    [row] = [line for line in lines if line.startswith("  all ")][1:]
    assert row.split()[1] == "58"
    assert row.endswith("<0.0001  <0.0001  worse")
    for words in ("McNemar: ", "Cohen's d_z ", "Cliff's delta ", "Hodges-Lehmann ", "bootstrap "):
        assert words in text
    assert [line.split() for line in lines if "cost" in line] == [["cost", "$15.2500", "$15.2500"]]
    assert lines[-1].startswith("B is worse: utility_under_attack ")


def test_what_is_better_or_the_same_is_not_worse(jobs: Path, capsys: Capture) -> None:
    code, text, _ = out(capsys, "bad", "good")
    assert code == 0
    assert text.splitlines()[-1] == "B is not significantly worse"
    assert "better" in text
    code, text, _ = out(capsys, "good", "good")
    assert code == 0
    assert "configuration:" not in text


def test_an_interval_that_excludes_zero_is_never_called_not_worse(
    jobs: Path, capsys: Capture
) -> None:
    """Five tasks fail that all succeeded; so few cannot give a small p."""
    a_job(jobs, "all", {f"t{n}": [1.0] for n in range(5)}, attack=None)
    a_job(jobs, "none", {f"t{n}": [0.0] for n in range(5)}, attack=None)
    code, text, _ = out(capsys, "all", "none")
    assert code == 2
    verdict = text.splitlines()[-1]
    assert re.fullmatch(
        r"undecided: the interval of utility, -1\.000 to -0\.\d{3}, excludes zero on the worse "
        r"side, but p 0\.0625, q 0\.0625 over 5 independent tasks does not reach the level; "
        r"run more",
        verdict,
    )
    code, text, _ = out(capsys, "none", "all")
    assert (code, text.splitlines()[-1]) == (0, "B is not significantly worse")


def test_a_margin_demands_proof(jobs: Path, capsys: Capture) -> None:
    """E79."""
    code, text, _ = out(capsys, "good", "good", "--margin=0.001")
    assert code == 1
    assert text.splitlines()[-1] == (
        "not shown that B worsens by less than 0.001: utility_under_attack, asr"
    )
    code, text, _ = out(capsys, "good", "good", "--margin=0.1")
    assert code == 0
    assert text.splitlines()[-1] == "B is not worse than A by 0.1 or more"
    assert "worse by less than 0.1: shown, p 0.00" in text


def test_json_holds_all_of_it(jobs: Path, capsys: Capture) -> None:
    code, text, _ = out(capsys, "good", "bad", "--format=json", "--seed=3", "--cluster=malicious")
    found = json.loads(text)
    # Four clusters show nothing: their p is never small, and the interval is wide.
    assert (code, found["worse"]) == (0, False)
    assert found["verdict"] == "B is not significantly worse"
    assert found["comparison"]["seed"] == 3
    [_, asr] = found["comparison"]["measures"]
    assert asr["tests"][0]["difference"]["clusters"] == 4
    assert asr["overlap"]["only_runs"]["examples"] == ["new:m0"]
    assert found["right"]["pending"] == 9


def test_markdown_is_a_table_and_obeys_nothing(jobs: Path, capsys: Capture) -> None:
    a_job(jobs, "evil", {"<script>|`u\x1b:m": [0.0], "u3:m3": [0.0]}, attack="a|b<img>")
    code, text, _ = out(capsys, "good", "evil", "--format=markdown")
    assert code == 0
    assert "| `all` | 1 | " in text
    assert "<script>" not in text
    assert "<img>" not in text
    assert "\x1b" not in text


def test_a_terminal_obeys_nothing(jobs: Path, capsys: Capture) -> None:
    a_job(jobs, "evil", {"u\x1b[2J:m": [0.0], "u3:m3": [0.0]})
    _, text, _ = out(capsys, "good", "evil")
    assert "\x1b" not in text
    assert r"only in B: 1 run: 1 task, as u\x1b[2J:m" in text


def test_a_measure_that_only_crashed_is_no_good_news(jobs: Path, capsys: Capture) -> None:
    for name, attacked in (("before", 0.0), ("after", "error")):
        a_job(jobs, f"{name}_benign", {"u0": [1.0]}, attack=None)
        a_job(jobs, f"{name}_attack", {"u0:m0": [attacked]})
    code, text, _ = out(capsys, "before_*", "after_*")
    assert code == 2
    assert "utility: 1 pair scored on both sides" in text
    assert text.splitlines()[-1] == (
        "not compared, for no pair is scored on both sides: utility_under_attack, asr"
    )


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (["good", "nosuch"], ["no job, sweep or glob 'nosuch' in jobs", "no baseline file of"]),
        (
            ["good", "other"],
            [
                "nothing can be compared: no run is scored on both sides",
                "asr: only in A: 61 runs: datasets mail",
                "asr: only in B: 60 runs: datasets chat",
            ],
        ),
        (["*", "good"], ["the left side holds 2 configurations of mail, direct, plain, test"]),
        (["good", "nothing"], ["'nothing' holds no run"]),
        (["good", "torn"], ["'torn' cannot be compared while", "index.jsonl:2"]),
    ],
)
def test_what_cannot_be_compared_says_why(
    jobs: Path, capsys: Capture, args: list[str], messages: list[str]
) -> None:
    if "*" in args:
        a_job(jobs, "again", scores(0.1, 5))
    a_job(jobs, "nothing", {})
    torn = a_job(jobs, "torn", {"u0:m0": [1.0]})
    with (torn / "index.jsonl").open("a") as index:
        index.write("junk\n")
    if "*" in args:
        for name in ("nothing", "torn"):
            (jobs / name / "config.yaml").unlink()
    code, text, said = out(capsys, *args)
    assert (code, text) == (2, "")
    for message in messages:
        assert message in said


def test_options_that_make_no_sense_are_refused(jobs: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["compare", "good", "bad", "--margin=2"])
    assert exit_.value.code == 2
    assert "2 is not between 0 and 1" in capsys.readouterr().err
