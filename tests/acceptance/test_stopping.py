"""Ctrl-C, and workers that die: real signals to real processes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.slow import eval_file

pytestmark = pytest.mark.slow

_PATIENCE = 120.0


class Session:
    """A pytest session in a process group of its own."""

    def __init__(self, project: Project, *args: str) -> None:
        self.project = project
        self.output = project.path / "output.txt"
        with open(self.output, "wb") as output:
            self.process = project.spawn(output.fileno(), "-p", "no:cacheprovider", *args)

    def asked(self) -> list[str]:
        path = self.project.path / "asked.txt"
        return path.read_text().split() if path.exists() else []

    def wait_for(self, asked: int, recorded: int = 0) -> None:
        """Wait until so many model calls have begun and so many runs are recorded."""
        deadline = time.monotonic() + _PATIENCE
        while len(self.asked()) < asked or len(self.project.results()) < recorded:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def end(self) -> int:
        try:
            return self.process.wait(_PATIENCE)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def text(self) -> str:
        return self.output.read_text()


def tasks(count: int, seconds: float) -> dict[str, float]:
    return {f"t{index:03}": seconds for index in range(count)}


@pytest.mark.parametrize(
    ("dist", "number"),
    [
        (["-p", "no:xdist"], signal.SIGINT),
        (["-n2"], signal.SIGTERM),
        pytest.param(["-p", "no:xdist"], signal.SIGTERM, marks=pytest.mark.nightly),
        pytest.param(["-n2"], signal.SIGINT, marks=pytest.mark.nightly),
    ],
    ids=["no-xdist-ctrl-c", "n2-SIGTERM", "no-xdist-SIGTERM", "n2-ctrl-c"],
)
def test_ctrl_c_cancels_and_records_what_is_in_flight(
    slow: Project, dist: list[str], number: signal.Signals
) -> None:
    quick = {"quick": 0.1}
    slow.write("eval_a.yaml", eval_file(quick | tasks(30, 100.0)))
    session = Session(slow, "--concurrency", "3", *dist)
    session.wait_for(asked=4, recorded=1)
    # As a terminal and schedulers do: to the controller and to all workers.
    os.killpg(session.process.pid, number)
    assert session.end() == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in session.text()
    assert "1 passed" in session.text()
    statuses = Counter(one["status"] for one in slow.results())
    assert statuses["scored"] == 1
    assert statuses["cancelled"] == len(session.asked()) - 1
    cancelled = statuses["cancelled"]
    assert f"pending: 30 of 31 runs, {cancelled} of them cancelled in flight" in session.text()
    assert "finish them with: pytest --resume " in session.text()
    # What was said so far is kept.
    said = [one for one in slow.executions() if one["status"] == "cancelled"]
    assert all("wait 100" in str(one["messages"]) for one in said)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)],
    ids=["ctrl-c", "SIGTERM"],
)
def test_ctrl_c_to_the_controller_alone_ends_the_workers(
    slow: Project, number: signal.Signals
) -> None:
    slow.write("eval_a.yaml", eval_file(tasks(30, 100.0)))
    session = Session(slow, "--concurrency", "3", "-n2")
    session.wait_for(asked=6)
    workers = session.workers()
    session.process.send_signal(number)
    assert session.end() == pytest.ExitCode.INTERRUPTED
    assert [one["status"] for one in slow.results()] == ["cancelled"] * 6
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_grace_lets_runs_in_flight_end(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file(tasks(30, 3.0)))
    session = Session(slow, "--concurrency", "3", "-p", "no:xdist", "--siren-grace", "60")
    session.wait_for(asked=3)
    session.process.send_signal(signal.SIGINT)
    assert session.end() == pytest.ExitCode.INTERRUPTED
    assert [one["status"] for one in slow.results()] == ["scored"] * 3
    assert "3 passed" in session.text()


def test_a_second_ctrl_c_leaves_at_once(slow: Project) -> None:
    slow.write("eval_a.yaml", eval_file({"quick": 0.1} | tasks(30, 100.0)))
    session = Session(slow, "--concurrency", "3", "-p", "no:xdist", "--siren-grace", "1000")
    session.wait_for(asked=4, recorded=1)
    session.process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert session.process.poll() is None
    session.process.send_signal(signal.SIGINT)
    assert session.end() == pytest.ExitCode.INTERRUPTED
    assert [one["status"] for one in slow.results()].count("scored") == 1


@pytest.mark.parametrize(
    "dist",
    [
        "load",
        *(pytest.param(mode, marks=pytest.mark.nightly) for mode in ("worksteal", "loadgroup")),
    ],
)
def test_a_killed_worker_loses_nothing(slow: Project, dist: str) -> None:
    slow.write("eval_a.yaml", eval_file(tasks(60, 0.5)))
    session = Session(slow, "--concurrency", "4", "-n2", "--dist", dist)
    session.wait_for(asked=16, recorded=9)
    os.kill(session.workers()[0], signal.SIGKILL)
    assert session.end() == 0, session.text()
    assert "60 passed" in session.text()
    assert "1 worker died; what was in flight there was given to other workers" in session.text()
    scored = Counter(one["task_id"] for one in slow.results() if one["status"] == "scored")
    assert scored == dict.fromkeys(tasks(60, 0), 1)
    # What the worker had in flight was asked again, or had ended and was not recorded yet: at most
    # as many as may be in flight each.
    assert len(session.asked()) <= 60 + 4 + 4


DIES_AFTER_A_REPORT = """
import os
import re
import signal

import pytest


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid):
    # The report is with the controller; that the item is done, it has not been told yet.
    if "PYTEST_XDIST_WORKER" in os.environ and "t003" in nodeid and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_is_reported_once_when_its_worker_dies_right_after_its_report(
    slow: Project,
) -> None:
    conftest = slow.path / "conftest.py"
    conftest.write_text(conftest.read_text() + DIES_AFTER_A_REPORT)
    slow.write("eval_a.yaml", eval_file(tasks(12, 0.2)))
    session = Session(slow, "--concurrency", "2", "-n2")
    assert session.end() == 0, session.text()
    assert (slow.path / "died").exists()
    assert "12 passed" in session.text()
    assert session.asked().count("t003") == 1


def test_a_run_that_kills_its_worker_is_found_and_the_others_are_not_blamed(
    slow: Project,
) -> None:
    slow.write("eval_a.yaml", eval_file({"poison": 0.1} | tasks(12, 0.6), model="slow:deadly"))
    session = Session(slow, "--concurrency", "4", "-n2")
    assert session.end() == 1, session.text()
    assert "1 failed, 12 passed" in session.text()
    assert "crashed while running 'eval_a.yaml::poison" in session.text()
    scored = Counter(one["task_id"] for one in slow.results() if one["status"] == "scored")
    assert scored == dict.fromkeys(tasks(12, 0), 1)


@pytest.mark.inside  # Only what is killed needs processes.
@pytest.mark.parametrize(
    "dist", ["no-xdist", pytest.param("-n2", marks=pytest.mark.nightly)], indirect=True
)
def test_a_job_that_is_being_written_is_not_resumed_by_another_session(
    slow: Project, dist: list[str]
) -> None:
    slow.write("evals/eval_slow.yaml", eval_file({"a": 0.0, "b": 60.0, "c": 60.0}))
    first = Session(slow, *dist, "evals", "-p", "cacheprovider")
    first.wait_for(asked=3, recorded=1)
    job = slow.jobs()[0].name
    for how in (["--lf"], ["--resume", job]):
        second = slow.run(*how)
        assert second.ret == pytest.ExitCode.USAGE_ERROR
        second.stderr.fnmatch_lines(
            [
                f"ERROR: {' '.join(how)}: jobs/{job} is being written by "
                f"process {first.process.pid}, which executes its runs: wait until it has ended, "
                "or stop it, and try again"
            ]
        )
        assert len(first.asked()) == 3
    assert slow.run("--lf", "--collect-only").ret == pytest.ExitCode.OK
    os.killpg(first.process.pid, signal.SIGKILL)
    first.end()
    finished = slow.run("--lf", "--siren-run-timeout=0.2")
    finished.assert_outcomes(passed=1, errors=2)
    assert len(first.asked()) == 5


@pytest.mark.inside
@pytest.mark.parametrize(
    "dist", ["no-xdist", pytest.param("-n2", marks=pytest.mark.nightly)], indirect=True
)
def test_runs_that_end_while_x_stops_the_session_are_not_called_pending(
    slow: Project, dist: list[str]
) -> None:
    # All of them end in the same tenth of a second, and pytest takes one failure only.
    slow.write("evals/eval_slow.yaml", eval_file(dict.fromkeys(["bad1", "bad2", "bad3"], 0.1)))
    result = slow.run(*dist, "evals", "-x", "--siren-grace=30")
    done = sum(one["status"] == "scored" for one in slow.results())
    assert done == 3
    shown = result.stdout.str()
    reported = 3 - sum(map(int, re.findall(r"being stopped: (\d) run", shown)))
    assert reported == int(re.findall(r"  tasks (\d) ", shown)[0])
    assert reported < 3
    assert "pending: " not in shown
    result.stdout.fnmatch_lines(["show all runs with: pytest --lf"])
    again = slow.run("--lf")
    again.stdout.fnmatch_lines(["recorded: 3 of 3 runs, not executed again"])
    again.assert_outcomes(failed=3)
