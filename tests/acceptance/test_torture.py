"""Sessions that are killed at random moments, again and again, until ``--lf`` has finished them.

``make torture`` kills fifty times.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.servers import Server, StartServer

KILLS = int(os.environ.get("SIREN_TORTURE", "2"))
RUNS = 300
WINDOW = 24
"""Runs in flight, of all processes together."""

EVAL = """
dataset:
  type: inline
  config:
    tasks: [{tasks}]
agent: {{type: plain, config: {{model: "openai-chat:slow"}}}}
"""
TASK = "{{id: t{}, prompt: ping, evaluators: {{c: {{type: contains, value: wait}}}}}}"
DIST = (["-p", "no:xdist", f"--concurrency={WINDOW}"], ["-n4", f"--concurrency={WINDOW // 4}"])


class Victim:
    """A job whose sessions are killed."""

    def __init__(self, project: Project, server: Server) -> None:
        self.project = project
        self.server = server
        self.lost = 0
        """Requests without a record when their session was killed."""

    def requests(self) -> int:
        return self.server.stats()["requests"]

    def start_over(self) -> None:
        for name in ("jobs", ".pytest_cache"):
            shutil.rmtree(self.project.path / name, ignore_errors=True)
        self.server.reset()
        self.lost = 0

    def killed(self, args: Sequence[str], number: signal.Signals) -> bool:
        """Run a session and kill it after a random time, unless it ends before; tell which."""
        asked, recorded = self.requests(), len(self.project.results())
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *args],
            cwd=self.project.path,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while self.requests() == asked and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:
            process.wait(random.uniform(0.0, 1.5))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
            process.wait(60)
        else:
            return False
        deadline = time.monotonic() + 10
        while _lives(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        lost = (self.requests() - asked) - (len(self.project.results()) - recorded)
        # A run may be cancelled, and recorded as that, before its request was sent.
        assert (0 if number == signal.SIGKILL else -WINDOW) <= lost <= WINDOW
        self.lost += lost
        return True

    def check_complete(self, number: signal.Signals) -> None:
        """Every run has one score, and none was executed again after it had one."""
        results = self.project.results()
        scored = [result["identity"] for result in results if result["status"] == "scored"]
        assert len(scored) == len(set(scored)) == RUNS
        cancelled = [result for result in results if result["status"] == "cancelled"]
        assert len(results) == RUNS + len(cancelled)
        assert bool(cancelled) == (number != signal.SIGKILL)
        assert self.requests() <= RUNS + self.lost + len(cancelled)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def rates(output: str) -> list[str]:
    """Return the lines of a summary that do not depend on when, where and in how many steps."""
    return re.findall(r"^(?:\S.* \| plain \| .*|  tasks .*|  utility.*)$", output, re.MULTILINE)


@pytest.fixture
def victim(project: Project, serve: StartServer) -> Victim:
    """Three hundred runs on a server that takes its time."""
    (project.path / "evals/eval_mail.yaml").unlink()
    tasks = ", ".join(TASK.format(number) for number in range(RUNS))
    project.write("evals/eval_slow.yaml", EVAL.format(tasks=tasks))
    return Victim(project, serve("--latency=0.2", "--text=wait"))


@pytest.mark.nightly
@pytest.mark.inside  # Only what is killed needs processes.
@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize(
    ("number", "kills"),
    [
        (signal.SIGKILL, KILLS),
        (signal.SIGINT, 1),
        (signal.SIGTERM, 2),
    ],
    ids=["SIGKILL", "SIGINT", "SIGTERM"],
)
def test_nothing_is_lost_and_nothing_is_paid_twice(
    victim: Victim, number: signal.Signals, kills: int
) -> None:
    project = victim.project
    dist = cycle(DIST)
    while kills > 0:
        victim.start_over()
        what = ["evals"]
        while kills > 0 and victim.killed([*next(dist), *what], number):
            kills -= 1
            what = ["--lf"]
    result = project.run("--lf")
    assert result.ret == pytest.ExitCode.OK
    victim.check_complete(number)
    undisturbed = project.run("evals")
    assert len(rates(undisturbed.stdout.str())) == 3
    assert rates(result.stdout.str()) == rates(undisturbed.stdout.str())
