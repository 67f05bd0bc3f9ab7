"""``--gate-stop``: sessions that end as soon as their gates are settled."""

from __future__ import annotations

import pytest
import yaml

from tests.acceptance.conftest import Project
from tests.acceptance.inside import Inside
from tests.acceptance.simulated import ARGS, CROSSED, asked, simulate

HELD, BROKEN = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def simulated(project: Project) -> Project:
    """A project, quick, with 20 x 20 couples and the model ``simulated:RATE``."""
    return simulate(project)


def last_lines(result: pytest.RunResult) -> list[str]:
    _, _, text = result.stdout.str().partition(" gates ===")
    others = ("=", "the session fails by its gates")
    return [line for line in text.splitlines()[1:] if line and not line.startswith(others)]


def used(line: str) -> int:
    """Return after how many of 400 runs the session was settled."""
    words = line.split()
    assert words[:2] == ["settled", "after"]
    assert words[3:6] == ["of", "400", "runs;"]
    return int(words[2])


@pytest.mark.parametrize("dist", ["alone", "-n2"])
def test_a_gate_far_from_its_bound_is_settled_early(simulated: Project, dist: str) -> None:
    if dist == "-n2":
        simulated = Inside(simulated.pytester, simulated.forks, ["-n2"])
    simulated.write("evals/test_last.py", "def test_good():\n    pass\n")
    result = simulated.run(*ARGS, "--gate=asr <= 0.10")
    assert result.ret == BROKEN
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] + outcomes["passed"] == len(asked(simulated)) + 1
    lines = last_lines(result)
    assert lines[0].startswith("BROKEN asr <= 0.10  0.")
    assert "pending" not in lines[0]
    assert "the confidence sequence, 0.1" in lines[1]
    after = used(lines[2])
    done = len(asked(simulated))
    assert 10 <= after <= done < 100
    assert lines[2].endswith(f"{400 - done} not needed")
    assert "pending" not in result.stdout.str()
    [job] = simulated.jobs()
    noted = yaml.safe_load((job / "config.yaml").read_text())
    assert (noted["not_needed"], noted.get("decided")) == (400 - done, None)
    # From records alone, which needs no workers.
    again = Inside(simulated.pytester, simulated.forks, ["-p", "no:xdist"]).run("--lf")
    assert again.ret == BROKEN
    assert last_lines(again)[1:] == lines[1:]
    assert len(asked(simulated)) == done


@pytest.mark.nightly
def test_recorded_runs_are_reported_though_gates_are_settled_without_them(
    simulated: Project,
) -> None:
    simulated = Inside(
        simulated.pytester, simulated.forks, ["-n2", "--concurrency=1", "--task-ids=m0,m1"]
    )
    first = simulated.run("evals", "--attack=template_string")
    [job] = simulated.jobs()
    gates = ("--gate-stop", "--gate=asr <= 0.9")
    again = simulated.run("evals", "--attack=template_string", f"--resume={job.name}", *gates)
    assert again.parseoutcomes() == first.parseoutcomes()
    assert last_lines(again)[-1].endswith(" of 40 runs; 0 not needed")


def test_the_order_is_that_of_the_configuration_alone(simulated: Project) -> None:
    simulated.args = ["--concurrency=1"]
    simulated.run(*ARGS, "--gate=asr <= 0.10")
    first = asked(simulated)
    tasks = [line.split()[0] for line in first]
    assert tasks != sorted(tasks)
    assert len(set(tasks)) == len(tasks)
    assert len({task.split(":")[0] for task in tasks[:20]}) > 5
    (simulated.path / "asked.txt").unlink()
    simulated.run(*reversed(ARGS[1:]), "--gate=asr <= 0.10", "evals/eval_mail.yaml")
    assert set(first[:20]) <= set(asked(simulated))


def test_a_gate_that_holds_is_settled_too(simulated: Project) -> None:
    result = simulated.run(*ARGS, "--gate=asr <= 0.6", "--gate=utility_under_attack >= 0")
    assert result.ret == HELD
    assert used(last_lines(result)[-1]) < 200


def test_what_cannot_be_settled_is_said(simulated: Project) -> None:
    args = [*ARGS, "--task-ids=m0"]
    near = simulated.run(*args, "--gate=asr <= 0.3")
    assert near.ret == BROKEN
    assert last_lines(near)[-1] == "--gate-stop: not settled by the 20 of 20 runs"
    assert "has 0.3 within after 20 runs" in last_lines(near)[1]
    cost = simulated.run(*args, "--gate=asr <= 0.9", "--gate=tokens <= 1000000")
    assert cost.ret == HELD
    assert last_lines(cost)[-1] == (
        "--gate-stop: nothing was stopped early: only all runs can decide tokens <= 1000000"
    )
    both = simulated.run(*args, "--gate=asr <= 0.9", "--model=simulated:0.1,simulated:0.2")
    assert last_lines(both)[-1] == (
        "--gate-stop: nothing was stopped early: asr <= 0.9 is about the same tasks in several "
        "jobs; give it a group each"
    )
    alike = simulated.run(*args, "--gate=asr <= 0.9", "--siren-cluster=benign")
    assert alike.ret == pytest.ExitCode.USAGE_ERROR
    alike.stderr.fnmatch_lines(["ERROR: --gate-stop takes tasks and couples for independent:*"])
    point = simulated.run(*args, "--gate=asr <= 0.9", "--gate-on=point")
    assert point.ret == pytest.ExitCode.USAGE_ERROR
    point.stderr.fnmatch_lines(["ERROR: --gate-stop needs intervals: it cannot be used with *"])


def test_couples_that_share_tasks_are_settled_after_batches_that_share_none(
    simulated: Project,
) -> None:
    args = (*CROSSED, "--siren-cluster=crossed", "--gate=asr <= 0.02")
    result = simulated.run(*args, "--concurrency=1")
    assert result.ret == BROKEN
    lines = last_lines(result)
    assert "the bound over batches of couples, 0." in lines[1]
    after = used(lines[2])
    assert after in (20, 40, 80, 160)
    batch = [line.split()[0].split(":") for line in asked(simulated)[:20]]
    for side in zip(*batch, strict=True):
        assert len(set(side)) == 20
    again = simulated.run("--lf")
    assert again.ret == BROKEN
    assert last_lines(again)[1:] == lines[1:]
    assert len(asked(simulated)) < 400


def test_over_all_runs_crossed_couples_have_the_interval_of_half_the_error(
    simulated: Project,
) -> None:
    args = (*CROSSED, "--siren-cluster=crossed", "--gate=asr <= 0.32")
    result = simulated.run(*args, "--concurrency=20")
    assert result.ret == BROKEN
    lines = last_lines(result)
    assert lines[0].startswith("INCONCLUSIVE asr <= 0.32  0.")
    assert lines[1].startswith("  the 97.5 % interval, 0.")
    assert lines[1].endswith("(batches of couples were looked at with the other half of the error)")
    assert lines[2] == "--gate-stop: not settled by the 400 of 400 runs"


def test_rounds_go_over_all_tasks_before_any_is_repeated(simulated: Project) -> None:
    result = simulated.run(
        *ARGS,
        "--task-ids=m0",
        "--runs=3",
        "--gate=asr <= 0.3",
        "--concurrency=1",
    )
    assert result.ret == BROKEN
    rounds = [int(line.split()[1]) for line in asked(simulated)]
    assert rounds == sorted(rounds)
    assert len(rounds) == 60


def test_other_tests_are_executed_all_the_same(simulated: Project) -> None:
    simulated.write("evals/test_last.py", "def test_good():\n    pass\n")
    result = simulated.run(*ARGS, "--gate=asr <= 0.10", "-v")
    assert result.ret == BROKEN
    result.stdout.fnmatch_lines(["*test_last.py::test_good*PASSED*"])
    assert used(last_lines(result)[-1]) < 100
