"""Rates, money and stops of all elements of a session together, by what a server counts."""

from __future__ import annotations

import json
import os
import signal
import time
from bisect import bisect_left
from collections.abc import Sequence

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.servers import Server, StartServer
from tests.acceptance.slow import eval_file

pytestmark = pytest.mark.slow

COST = 100 * 0.15e-6 + 20 * 0.60e-6
"""US dollars of one answer of the server, at the model's price."""


def tasks(count: int) -> str:
    return eval_file({f"t{index:04}": 0 for index in range(count)}, model="openai-chat:gpt-4o-mini")


def elements(count: int, concurrency: int) -> list[str]:
    options = ["--siren-executor=local", f"--slurm-shards={count}"]
    return [*options, f"--concurrency={concurrency}"]


def most_within(moments: Sequence[float], seconds: float) -> int:
    """Return the most moments in any span of so many seconds."""
    return max(bisect_left(moments, moment + seconds) - at for at, moment in enumerate(moments))


def number_within(moments: Sequence[float], start: float, seconds: float) -> int:
    return bisect_left(moments, start + seconds) - bisect_left(moments, start)


def kill_first_element(project: Project) -> None:
    (process, *_) = sorted(project.path.glob("jobs/.sessions/*/processes/*.json"))
    os.kill(json.loads(process.read_text())["pid"], signal.SIGKILL)


def scored_once(project: Project, count: int) -> bool:
    results = project.results()
    scored = {one["task_id"] for one in results if one["status"] == "scored"}
    return len(scored) == len([one for one in results if one["status"] == "scored"]) == count


def test_elements_have_one_cap_together(project: Project, serve: StartServer) -> None:
    server = serve("--latency=0.2", "--text=wait", "--trace")
    project.write("evals/eval_mail.yaml", tasks(240))
    result = project.run(*elements(2, 32), "--siren-rpm=1200")
    result.assert_outcomes(passed=240)
    moments = [at for at, _, _ in server.trace()]
    # Twenty a second, of which one second's may come at once.
    assert most_within(moments, 5) <= 20 * 7
    assert moments[-1] <= (240 - 20) / 20 / 0.85


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_no_minute_holds_more_than_the_cap_though_an_element_dies(
    project: Project, serve: StartServer
) -> None:
    server = serve("--latency=0.2", "--text=wait", "--trace")
    project.write("evals/eval_mail.yaml", tasks(2_000))
    session = project.start(*elements(4, 16), "--siren-rpm=900")
    killed = killed_halfway(project, server, 1_000)
    output = session.finish(timeout=300)
    assert session.returncode == 0, output
    assert scored_once(project, 2_000)
    moments = [at for at, _, _ in server.trace()]
    assert len(moments) <= 2_000 + 16
    assert most_within(moments, 60) <= 900 * 1.05
    for start in (killed - 60, killed - 30, killed, killed + 30):
        assert number_within(moments, start, 30) >= 0.85 * 450


def killed_halfway(project: Project, server: Server, answers: int) -> float:
    """Kill an element after so many answers; return when, in seconds after the first request."""
    while server.stats()["answered"] < answers:
        time.sleep(0.1)
    kill_first_element(project)
    return server.trace()[-1][0]


def test_elements_spend_no_more_together_than_they_may(
    project: Project, serve: StartServer
) -> None:
    server = serve("--latency=0.1", "--text=wait")
    project.write("evals/eval_mail.yaml", tasks(900))
    limit = 300 * COST
    result = project.run(*elements(2, 2), f"--siren-max-cost={limit:.6f}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*--siren-max-cost {limit:.6f} reached*"])
    assert 300 <= server.stats()["answered"] <= 300 * 1.05
