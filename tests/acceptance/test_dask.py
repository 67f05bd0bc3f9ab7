"""Sessions whose runs are executed by tasks of Dask: ``--siren-executor dask``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.project import Project
from tests.acceptance.slow import eval_file
from tests.acceptance.test_cluster import executions, sessions, table, verdicts, wait_until
from tests.dask_cluster import dask_cluster, worker_of

pytestmark = pytest.mark.slow


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers, which execute an element each."""
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=2) as address:
        yield address


def test_a_cluster_of_the_session_comes_to_what_one_process_comes_to(project: Project) -> None:
    args = ("evals", "--attack=template_string", "--runs=2", "--gate", "asr <= 0.9")
    here = project.run(*args, "--junitxml=here.xml")
    there = project.run(*args, "--junitxml=there.xml", "--siren-executor=dask", "--slurm-shards=2")

    assert table(there) == table(here)
    assert there.ret == here.ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts(project.path / "there.xml") == verdicts(project.path / "here.xml")
    there.stdout.fnmatch_lines(["siren: 8 runs submitted to dask: 2 elements"])
    assert not sessions(project)


def test_a_worker_that_is_killed_costs_nothing_that_is_scored(slow: Project, address: str) -> None:
    slow.write(
        "evals/eval_slow.yaml", eval_file({"ok1": 0.1, "ok2": 0.1, "ok3": 10.0, "ok4": 10.0})
    )
    args = ("--slurm-shards=2", "--concurrency=1", "--no-wait")
    left = slow.run("evals", f"--siren-executor=dask:{address}", *args)
    assert left.ret == pytest.ExitCode.OK
    left.stdout.fnmatch_lines(
        [
            f"siren: 4 runs submitted to dask:{address}: 2 elements",
            "siren: not waiting (--no-wait); come back with: pytest --lf",
        ]
    )

    following = slow.start("--lf")
    wait_until(lambda: len(slow.results()) == 2 and sum(executions(slow).values()) == 4)
    [session] = sessions(slow)
    os.kill(worker_of(session, element=0), signal.SIGKILL)
    output = following.finish(timeout=120)

    assert following.returncode == pytest.ExitCode.OK
    assert f"siren: follows dask:{address} siren-" in output
    assert "failed: its worker has died; its log: " in output
    assert "4 passed" in output
    assert executions(slow)["ok1"] == executions(slow)["ok2"] == 1
    assert len(slow.results()) == 4

    again = slow.run("--lf")
    again.stdout.fnmatch_lines(["recorded: 4 of 4 runs, not executed again"])
    assert sorted(executions(slow).values()) == [1, 1, 1, 2]


def test_a_scheduler_that_is_not_there_is_one_message(project: Project) -> None:
    args = ("evals", "--attack=template_string", "--siren-executor=dask:127.0.0.1:1")
    result = project.run(*args)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "*nothing could be submitted: dask:127.0.0.1:1: nothing answers there: "
            "Connection refused*"
        ]
    )
    assert not sessions(project)
    assert not project.jobs(), "nothing was recorded: there is no job"
