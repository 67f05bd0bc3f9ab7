"""``siren bless``: what it writes, what it refuses, and that the file is as good as the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from tests.unit.paired_sample import a_job

Capture = pytest.CaptureFixture[str]
FILE = "evals/baselines/mail_direct_test.baseline.jsonl"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a complete job of two runs."""
    monkeypatch.chdir(tmp_path)
    a_job(tmp_path / "jobs", "first", {"u1:m0": [1.0], "u0:m0": [0.0]})
    return tmp_path


def out(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = main(list(args))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_job_becomes_a_small_file_that_compares_like_it(folder: Path, capsys: Capture) -> None:
    assert out(capsys, "bless", "first") == (0, f"{FILE}: written, 2 of 2 runs scored\n", "")
    assert (folder / FILE).read_text().splitlines() == [
        '{"baseline":"pytest-siren","schema_version":1}',
        '{"configuration":0,"dataset":"mail","suite":null,"agent":"plain","model":"test",'
        '"model_kind":"model","attack":"direct","identity":"identity of first"}',
        '{"configuration":0,"task":"u0:m0","run":0,"status":"scored","benign_score":1.0,'
        '"attack_score":0.0}',
        '{"configuration":0,"task":"u1:m0","run":0,"status":"scored","benign_score":0.0,'
        '"attack_score":1.0}',
    ]
    for target in (FILE, "evals/baselines"):
        code, text, _ = out(capsys, "compare", target, "first")
        assert code == 0
        assert "asr: 2 pairs scored on both sides" in text
        [tokens] = [line.split() for line in text.splitlines() if "input tokens" in line]
        assert tokens == ["input", "tokens", "unknown", "200"]


def test_the_same_scores_change_nothing(folder: Path, capsys: Capture) -> None:
    out(capsys, "bless", "first")
    before = (folder / FILE).stat().st_mtime_ns
    assert out(capsys, "bless", "first") == (0, f"{FILE}: unchanged, 2 of 2 runs scored\n", "")
    assert (folder / FILE).stat().st_mtime_ns == before


def test_other_scores_are_shown_and_need_force(folder: Path, capsys: Capture) -> None:
    out(capsys, "bless", "first")
    before = (folder / FILE).read_bytes()
    a_job(folder / "jobs", "next", {"u1:m0": [0.0], "u2:m0": [0.5, 0.0]})
    changes = [
        f"{FILE} changes:",
        "  mail direct test plain: another configuration: identity of first -> identity of next",
        "  mail direct test plain: u0:m0 run 0: utility 1, attack 0 -> not there",
        "  mail direct test plain: u1:m0 run 0: utility 0, attack 1 -> utility 1, attack 0",
        "  mail direct test plain: u2:m0 run 0: not there -> utility 0.5, attack 0.5",
        "  mail direct test plain: u2:m0 run 1: not there -> utility 1, attack 0",
    ]
    code, text, said = out(capsys, "bless", "next")
    assert (code, text.splitlines()) == (1, changes)
    assert said == "siren: nothing was written; replace what is there with --force\n"
    assert (folder / FILE).read_bytes() == before
    code, text, _ = out(capsys, "bless", "next", "--force")
    assert (code, text.splitlines()) == (0, [*changes, f"{FILE}: written, 3 of 3 runs scored"])


def test_an_incomplete_job_is_refused(folder: Path, capsys: Capture) -> None:
    a_job(folder / "jobs", "part", {"u0:m0": [0.0, "error"]}, planned=4)
    code, text, said = out(capsys, "bless", "part")
    assert (code, text) == (1, "")
    assert "part: only 1 of 4 runs are scored (1 error, 2 pending)" in said
    assert "--allow-incomplete" in said
    code, text, _ = out(capsys, "bless", "part", "--allow-incomplete")
    assert (code, text) == (0, f"{FILE}: written, 1 of 2 runs scored\n")


def test_a_glob_makes_a_file_for_each_dataset_attack_and_model(
    folder: Path, capsys: Capture
) -> None:
    a_job(folder / "jobs", "benign", {"u0": [1.0]}, attack=None)
    assert out(capsys, "bless", "*")[0] == 0
    assert sorted(path.name for path in (folder / "evals/baselines").iterdir()) == [
        "mail_benign_test.baseline.jsonl",
        "mail_direct_test.baseline.jsonl",
    ]
    code, text, _ = out(capsys, "bless", "*", "-o", "all.jsonl")
    assert (code, text) == (0, "all.jsonl: written, 3 of 3 runs scored\n")
    code, text, _ = out(capsys, "compare", "all.jsonl", "evals/baselines")
    assert code == 0
    assert text.startswith("A: all.jsonl (1 baseline file): 3 runs;")


def test_what_is_no_baseline_file_is_not_overwritten(folder: Path, capsys: Capture) -> None:
    (folder / "notes.md").write_text("mine")
    code, text, _ = out(capsys, "bless", "first", "-o", "notes.md")
    assert code == 1
    assert "unreadable so far: notes.md:1: not JSON" in text
    assert (folder / "notes.md").read_text() == "mine"


def test_what_cannot_be_read_or_written_is_said(folder: Path, capsys: Capture) -> None:
    code, _, said = out(capsys, "bless", "nosuch")
    assert code == 2
    assert "no job, sweep or glob 'nosuch' in jobs" in said
    (folder / "evals").write_text("")
    code, _, said = out(capsys, "bless", "first")
    assert code == 2
    assert f"{FILE} cannot be written: " in said


def test_two_jobs_of_one_configuration_are_refused(folder: Path, capsys: Capture) -> None:
    a_job(folder / "jobs", "twin", {"u0:m0": [0.0]}, identity="identity of first")
    code, _, said = out(capsys, "bless", "*")
    assert code == 2
    assert "jobs/first and jobs/twin have the same configuration, and both hold run 0" in said
