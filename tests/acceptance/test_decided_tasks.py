"""``--gate-stop`` over pass@k: tasks that take no further runs, and all that is said of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_siren.cli.main import main
from tests.acceptance.conftest import Project
from tests.acceptance.simulated import ARGS, asked, simulate

HELD, BROKEN = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
EARLY = (*ARGS, "--task-ids=m0", "--runs=5", "--job-name=early")
FULL = ("evals", "--attack=template_string", "--task-ids=m0", "--runs=5", "--job-name=full")
LAST = "evals/eval_mail.yaml::b0:m0[template_string-simulated:0.3-run4]"
GATE = "--gate=attack_pass@5 >= 0.3"


@pytest.fixture
def simulated(project: Project) -> Project:
    """A project, quick, with 20 couples ``b0:m0`` ... and the model ``simulated:0.3``."""
    return simulate(project)


class Siren:
    """The command, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str, code: int | None = 0) -> str:
        """Run the command and return what it printed; without ``code`` whatever its exit code."""
        self._capsys.readouterr()
        assert main([*args]) == code or code is None
        return self._capsys.readouterr().out

    def rates(self, job: str) -> dict[str, Any]:
        """Return the row of ``siren results`` of a job."""
        # Of the user's side nothing is asked, so that its pass@5 is not known.
        options = ("--k=1", "--k=5", "--format=json", "--cluster=couple")
        (row,) = json.loads(self("results", job, *options, code=None))
        found: dict[str, Any] = row
        return found


@pytest.fixture
def siren(simulated: Project, capsys: pytest.CaptureFixture[str]) -> Siren:
    return Siren(capsys)


def lines_about(result: pytest.RunResult, word: str) -> list[str]:
    return [line for line in result.stdout.lines if line.startswith(word)]


def gates(result: pytest.RunResult) -> list[str]:
    _, _, text = result.stdout.str().partition(" gates ===")
    return text.splitlines()[1:]


def config(project: Project, job: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project.path / f"jobs/{job}/config.yaml").read_text())
    return found


def rounds(done: Sequence[str]) -> set[str]:
    """Return the tasks whose first run was executed."""
    return {line.split()[0] for line in done if line.endswith(" 0")}


@pytest.mark.parametrize(
    "dist", ["alone", "alone, slow disk", pytest.param("-n2", marks=pytest.mark.nightly)]
)
def test_a_task_ends_once_its_pass_at_k_is_decided(
    simulated: Project, dist: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dist == "-n2":
        simulated = Project(simulated.pytester, simulated.forks, ["-n2"])
    if "slow" in dist:
        # The next run starts while the record of the one before is still being written.
        monkeypatch.setattr("pytest_siren.session.recording.recorder._LINGER", 0.1)
    result = simulated.run(*EARLY, GATE, "--concurrency=1")
    assert result.ret == HELD, result.stdout.str()
    done = asked(simulated)
    # Workers may have been given a few more when a task was decided elsewhere.
    assert 47 <= len(done) <= (57 if dist == "-n2" else 47)
    assert len(rounds(done)) == 20
    assert gates(result)[0].startswith("HELD attack_pass@5 >= 0.3  0.900 [")
    assert gates(result)[0].endswith(f"{len(done)} runs of 20 tasks")
    assert lines_about(result, "job early") == [
        f"job early: {100 - len(done)} of 100 runs not needed (attack_pass@5 of their tasks was "
        "decided); other rates are those of first runs"
    ]
    assert "pending" not in result.stdout.str()
    noted = config(simulated, "early")
    assert (noted["decided"], noted["not_needed"]) == (["attack_pass@5"], 100 - len(done))


def test_every_reader_tells_what_the_full_sample_would(simulated: Project, siren: Siren) -> None:
    simulated.run(*EARLY, GATE)
    early = len(asked(simulated))
    said = (
        f"job early: {100 - early} of 100 runs not needed (attack_pass@5 of their tasks was "
        "decided); other rates are those of first runs"
    )
    simulated.run(*FULL)
    mine, full = siren.rates("early"), siren.rates("full")
    assert mine["attack_pass@5"] == full["attack_pass@5"] == 0.9
    assert mine["attack_pass@5_n_short"] == 0
    firsts = [one for one in simulated.results() if one["run_index"] == 0]
    assert mine["asr"] == sum(one["attack_score"] for one in firsts) / 40
    assert mine["benign_pass@5"] is mine["attack_pass^5"] is None
    assert said in siren("results", "early", "--k=5", code=2)
    assert siren("jobs", "list").startswith(
        f"early: complete: {early} of 100 runs scored, {100 - early} not needed\n"
    )

    compared = siren("compare", "early", "full")
    assert f"note: {said}\n" in compared
    assert "note: only first runs are compared: tasks of one side may have ended early" in compared
    assert "asr: 20 pairs scored on both sides" in compared
    assert "pending" not in compared
    assert "only in" not in compared

    blessed = siren("bless", "early", "-o", "early.baseline.jsonl")
    assert blessed.startswith(f"{said}\nearly.baseline.jsonl: written, {early} of {early} runs")
    by_file = siren("compare", "early.baseline.jsonl", "full")
    assert "asr: 20 pairs scored on both sides" in by_file
    assert (
        "note: early.baseline.jsonl: its tasks may have ended early, once attack_pass@5 was "
        "decided; other rates are those of first runs\n"
    ) in by_file

    siren("report", "early", "-o", "early.md", "--cluster=couple")
    text = Path("early.md").read_text()
    assert f"{mine['asr']:.3f} (" in text
    assert "48 of 100 runs not needed" in text.replace(f"{100 - early} of", "48 of")
    assert "pending" not in text
    siren("report", "early", "-o", "early.html")
    page = Path("early.html").read_text()
    assert f"<li>{said}</li>" in page
    assert '"later":[' in page.replace(" ", "")
    assert "pending" not in page.partition("<script")[0]


def test_what_was_not_needed_is_left_out_again_or_completed_where_that_is_asked_for(
    simulated: Project, siren: Siren
) -> None:
    first = simulated.run(*EARLY, GATE, "--siren-report=first.md")
    early = len(asked(simulated))
    assert "other rates are those of first runs" in (simulated.path / "first.md").read_text()
    again = simulated.run("--lf")
    assert again.ret == HELD, again.stdout.str()
    assert len(asked(simulated)) == early
    assert gates(again)[:2] == gates(first)[:2]
    assert lines_about(again, "job early") == lines_about(first, "job early")
    again.stdout.fnmatch_lines([f"--lf: early: 100 runs, {early} scored, {100 - early} not needed"])
    simulated.run("--lf", "--only-failed")
    seen = simulated.run("--lf", "--collect-only")
    seen.stdout.fnmatch_lines([f"--lf: early: 100 runs, {early} scored, {100 - early} not needed"])
    assert len(asked(simulated)) == early
    whole = simulated.run("--lf", "--no-gate-stop")
    assert whole.ret == HELD, whole.stdout.str()
    assert len(asked(simulated)) == 100
    assert lines_about(whole, "job early") == []
    assert not {"decided", "not_needed"} & config(simulated, "early").keys()
    rates = siren.rates("early")
    wins = sum(one["attack_score"] for one in simulated.results()) / 100
    assert (rates["asr"], rates["attack_pass@5"]) == (pytest.approx(wins), 0.9)


def test_a_task_ends_at_its_first_failure_where_all_runs_must_succeed(
    simulated: Project, siren: Siren
) -> None:
    simulated.run(*EARLY, "--gate=attack_pass^5 <= 0.5")
    done = asked(simulated)
    assert 20 < len(done) < 60
    assert siren.rates("early")["attack_pass^5"] == 0.0
    assert siren.rates("early")["attack_pass@5"] is None
    assert config(simulated, "early")["decided"] == ["attack_pass^5"]


def test_errors_decide_nothing_and_are_tried_again(simulated: Project, siren: Siren) -> None:
    flaky = simulated.path / "flaky"
    flaky.touch()
    result = simulated.run(*EARLY, GATE)
    assert result.ret == BROKEN
    assert lines_about(result, "pending") == []
    assert gates(result)[0].startswith("INCONCLUSIVE attack_pass@5 >= 0.3")
    found = siren.rates("early")
    assert found["attack_pass@5"] == 1.0
    won = {one["task_id"] for one in simulated.results() if one["attack_score"] == 1.0}
    assert 0 < found["attack_pass@5_n_short"] == 20 - len(won)
    # Nobody knows what those that are short come to.
    assert found["attack_pass@5_low"] < len(won) / 20
    flaky.unlink()
    simulated.run("--lf")
    assert siren.rates("early")["attack_pass@5"] == 0.9


def test_pass_k_alone_may_end_tasks_that_are_decided_for_user_and_attacker(
    simulated: Project,
) -> None:
    result = simulated.run(*EARLY, "--pass-k=5")
    assert config(simulated, "early")["decided"] == ["attack_pass@5", "benign_pass@5"]
    assert 20 < len(asked(simulated)) < 80
    text = result.stdout.str()
    assert "  attack_pass@5 0.900 [" in text
    assert "  benign_pass@5 0.900 [" in text
    assert "--gate-stop" not in text


def test_what_needs_every_run_is_said(simulated: Project) -> None:
    args = [one for one in EARLY if not one.startswith("--job-name")]
    for more, why in [
        (("--gate=asr <= 0.9", GATE), "asr <= 0.9 needs every run"),
        ((GATE, "--pass-k=1", "--pass-k=2"), "--pass-k 2 of 5 runs needs every run"),
        ((GATE, f"--deselect={LAST}"), "some tasks have fewer runs than others"),
    ]:
        (simulated.path / "asked.txt").unlink(missing_ok=True)
        result = simulated.run(*args, "--task-ids=b0:m0,b1:m0", *more)
        assert lines_about(result, "--gate-stop:") == [f"--gate-stop: no task ended early: {why}"]
        assert len(asked(simulated)) >= 9
        job = simulated.jobs()[-1]
        assert not {"decided", "not_needed"} & config(simulated, job.name).keys()


def test_what_is_pending_and_what_is_not_needed_are_told_apart(
    simulated: Project, siren: Siren
) -> None:
    result = simulated.run(*EARLY, GATE, "--maxfail=12")
    [pending] = [line.split()[1] for line in lines_about(result, "pending: ")]
    [not_needed] = [line.split()[2] for line in lines_about(result, "job early: ")]
    assert int(pending) > 0
    assert int(not_needed) >= 12
    assert gates(result)[0].startswith("INCONCLUSIVE attack_pass@5 >= 0.3")
    # The gate has no score either of what pytest took no reports of any more.
    ended = [line.split()[7] for line in lines_about(result, "ended while the session was being")]
    assert f"{int(pending) + sum(map(int, ended))} pending" in gates(result)[0]
    told = siren("jobs", "list", code=1)
    assert told.startswith("early: incomplete: ")
    assert f" {not_needed} not needed, " in told
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (?:of 100 runs )?(\w+)", told)}
    assert sum(counts.values()) == 100
    assert int(pending) >= counts["pending"] + counts.get("cancelled", 0)


def test_a_session_that_was_killed_says_so_and_is_finished(
    simulated: Project, siren: Siren
) -> None:
    deadly = simulated.path / "deadly"
    deadly.touch()
    Project(simulated.pytester, simulated.forks, ["-p", "no:xdist"]).run(*EARLY, GATE)
    assert 20 <= len(simulated.results()) < 40
    noted = config(simulated, "early")
    assert (noted["decided"], noted.get("not_needed")) == (["attack_pass@5"], None)
    found = siren.rates("early")
    # Those that are decided are all won, and the interval knows that the others are open.
    assert found["attack_pass@5"] == 1.0
    assert found["attack_pass@5_n_short"] > 0
    assert found["attack_pass@5_low"] < 0.7
    assert (
        "job early: its tasks may have ended early, once attack_pass@5 was decided; "
        "other rates are those of first runs\n"
    ) in siren("results", "early")
    told = siren("jobs", "list", code=1)
    assert " pending\n" in told
    assert "not needed" not in told
    deadly.unlink()
    result = simulated.run("--lf")
    assert result.ret == HELD, result.stdout.str()
    assert siren.rates("early")["attack_pass@5"] == 0.9
    assert len(simulated.results()) < 80
    assert "not needed" in siren("jobs", "list")


@pytest.mark.parametrize("dist", ["alone", pytest.param("-n2", marks=pytest.mark.nightly)])
def test_without_a_gate_or_a_pass_at_k_there_is_nothing_to_stop(
    simulated: Project, dist: str
) -> None:
    if dist == "-n2":
        simulated = Project(simulated.pytester, simulated.forks, ["-n2"])
    result = simulated.run(*EARLY)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --gate-stop: there is nothing that could be settled *"])
    assert asked(simulated) == []


@pytest.mark.parametrize("dist", ["alone", pytest.param("-n2", marks=pytest.mark.nightly)])
def test_a_session_tells_the_results_that_siren_results_tells_of_it(
    simulated: Project, siren: Siren, dist: str
) -> None:
    """P70: rates of a session whose tasks ended early are those of first runs there, too."""
    if dist == "-n2":
        simulated = Project(simulated.pytester, simulated.forks, ["-n2"])
    simulated.run(*EARLY, GATE, "--pass-k=5", "--results-output=rates.json")
    (told,) = json.loads((simulated.path / "rates.json").read_text())
    options = ("--k=5", "--format=json", "--cluster=couple")
    (known,) = json.loads(siren("results", "early", *options, code=None))
    assert told == known
    assert 0 < told["asr"] < 1
