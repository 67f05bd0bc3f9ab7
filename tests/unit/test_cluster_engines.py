"""Engines that every machine has: submitit's local and debug executors, and its plug-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.distribute.cluster.element import Element
from pytest_siren.distribute.cluster.engines.base import (
    ElementState,
    ElementStatus,
    Engine,
    SubmitError,
)
from pytest_siren.distribute.cluster.engines.by_name import engine_named
from pytest_siren.distribute.cluster.engines.slurm_queue import QueueQuestion
from pytest_siren.distribute.cluster.settings import Settings

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(cpus_per_task=1, mem_gb=1)
PLUGIN = """
from submitit.local.local import LocalExecutor, LocalJobEnvironment
class NearbyExecutor(LocalExecutor):
    pass
class NearbyJobEnvironment(LocalJobEnvironment):
    pass
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def elements(folder: Path, number: int) -> list[Element]:
    module = "tests.unit.element_process"
    return [Element(folder, n, 1, folder, patience=10.0, module=module) for n in range(number)]


def until_ended(engine: Engine, ids: list[str]) -> Mapping[str, ElementStatus]:
    return until(engine, ids, ElementState.ENDED)


def until(engine: Engine, ids: list[str], state: ElementState) -> Mapping[str, ElementStatus]:
    end = time.monotonic() + 60
    while True:
        engine.drive()
        statuses = engine.statuses(ids)
        if all(one.state is state for one in statuses.values()):
            return statuses
        assert time.monotonic() < end, statuses
        time.sleep(0.05)


def until_begun(folder: Path, number: int) -> None:
    end = time.monotonic() + 60
    while len(list(folder.glob("reports/*.jsonl"))) < number:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def sleeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two elements of the local engine that sleep."""
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    engine = engine_named("local", tmp_path / "engine")
    ids = engine.submit(elements(tmp_path, 2), SETTINGS)
    until_begun(tmp_path, 2)
    yield ids
    engine.cancel(ids)
    until_ended(engine, ids)


@pytest.mark.parametrize("name", ["local", "debug"])
def test_elements_end_by_themselves(tmp_path: Path, name: str) -> None:
    engine = engine_named(name, tmp_path / "engine")
    ids = engine.submit(elements(tmp_path, 2), SETTINGS)
    assert len(set(ids)) == 2
    statuses = until_ended(engine, ids)
    assert [(one.failed, one.reason) for one in statuses.values()] == [(False, "")] * 2
    assert len(list(tmp_path.glob("reports/e?.0.jsonl"))) == 2
    engine.close()


@pytest.mark.parametrize("name", ["local", "debug"])
def test_a_broken_environment_is_told_in_the_elements_own_words(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "broken")
    engine = engine_named(name, tmp_path / "engine")
    ids = engine.submit(elements(tmp_path, 1), SETTINGS)
    [status] = until_ended(engine, ids).values()
    assert status.failed
    assert status.broken
    assert "No module named 'their_suite'" in status.reason


def test_another_process_follows_and_cancels_local_elements(
    tmp_path: Path, sleeping: list[str]
) -> None:
    other = engine_named("local", tmp_path / "engine")
    statuses = other.statuses(sleeping)
    assert {one.state for one in statuses.values()} == {ElementState.RUNNING}
    assert all(one.log is not None and one.log.exists() for one in statuses.values())
    other.cancel(sleeping)
    statuses = until_ended(other, sleeping)
    assert [one.reason for one in statuses.values()] == ["ended without a result"] * 2
    assert len(list(tmp_path.glob("*.ended"))) == 2


def test_a_local_element_that_is_killed_has_ended(tmp_path: Path, sleeping: list[str]) -> None:
    engine = engine_named("local", tmp_path / "engine")
    os.kill(int(sleeping[0]), signal.SIGKILL)
    statuses = until_ended(engine, sleeping[:1])
    assert [one.failed for one in statuses.values()] == [True]
    [other] = engine.statuses(sleeping[1:]).values()
    assert other.state is ElementState.RUNNING


def test_local_elements_of_another_machine_are_not_taken_for_dead(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "host").write_text("elsewhere")
    [status] = engine_named("local", tmp_path / "engine").statuses(["1"]).values()
    assert status == ElementStatus(ElementState.UNKNOWN, "runs on elsewhere, if it still does")


def test_local_elements_keep_neither_terminal_nor_pipe_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pytest --no-wait | tee log`` ends, and Ctrl-C reaches the session only."""
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    code = f"""
from pathlib import Path
from tests.unit.test_cluster_engines import SETTINGS, elements
from pytest_siren.distribute.cluster.engines.by_name import engine_named
folder = Path({str(tmp_path)!r})
print(*engine_named("local", folder / "engine").submit(elements(folder, 1), SETTINGS))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    [element] = done.stdout.split()
    assert os.getsid(int(element)) != os.getsid(0)
    engine = engine_named("local", tmp_path / "engine")
    engine.cancel([element])
    until_ended(engine, [element])


def test_an_interrupt_during_the_submission_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    engine = engine_named("local", tmp_path / "engine")
    cancelled: list[str] = []
    cancel = type(engine).cancel
    monkeypatch.setattr(
        type(engine), "cancel", lambda self, ids: cancelled.extend(ids) or cancel(self, ids)
    )
    communicate = subprocess.Popen.communicate

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return communicate(*args, **kwargs)

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.submit(elements(tmp_path, 1), SETTINGS)
    assert len(cancelled) == 1
    until_ended(engine, cancelled)


def test_debug_elements_that_are_cancelled_are_not_executed(tmp_path: Path) -> None:
    engine = engine_named("debug", tmp_path / "engine")
    ids = engine.submit(elements(tmp_path, 2), SETTINGS)
    assert {one.state for one in engine.statuses(ids).values()} == {ElementState.PENDING}
    engine.cancel(ids[:1])
    statuses = until_ended(engine, ids)
    assert [one.reason for one in statuses.values()] == ["cancelled", ""]
    assert [path.stem for path in tmp_path.glob("reports/*")] == ["e1.0"]


def test_an_element_that_slurm_has_not_considered_yet_waits_for_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stub: a real queue is in this state for some milliseconds only.
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho '7_0|PENDING|None'\necho '7_1|PENDING|Resources'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    question = QueueQuestion()
    try:
        entries = question.answer(10)
    finally:
        question.close()
    assert entries is not None
    assert {name: entry.reason for name, entry in entries.items()} == {
        "7_0": "",
        "7_1": "Resources",
    }


def test_slurm_without_sbatch_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SubmitError, match="there is no sbatch on this machine: start pytest on"):
        engine_named("slurm", tmp_path).submit(elements(tmp_path, 1), SETTINGS)


def test_an_unknown_executor_is_a_usage_error_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError) as raised:
        engine_named("lokal", tmp_path)
    assert str(raised.value) == (
        "--siren-executor: unknown executor 'lokal' (did you mean 'local'?); known are "
        "slurm, local, debug, dask"
    )


@pytest.fixture
def nearby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a plug-in of submitit, for this process and those that it starts."""
    from submitit.core import plugins

    site = tmp_path / "site"
    (site / "nearby-1.0.dist-info").mkdir(parents=True)
    (site / "nearby.py").write_text(PLUGIN)
    (site / "nearby-1.0.dist-info" / "METADATA").write_text("Name: nearby\nVersion: 1.0\n")
    (site / "nearby-1.0.dist-info" / "entry_points.txt").write_text(
        "[submitit]\nexecutor = nearby:NearbyExecutor\njob_environment = "
        "nearby:NearbyJobEnvironment\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{ROOT}")
    caches: list[Callable[[], None]] = [
        plugins._get_plugins.cache_clear,
        plugins.get_executors.cache_clear,
        plugins.get_job_environments.cache_clear,
    ]
    for clear in caches:
        clear()
    yield
    for clear in caches:
        clear()


@pytest.mark.usefixtures("nearby")
# Its process may end later than its result comes, and nobody waits for it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_plug_in_of_submitit_works_by_its_name(tmp_path: Path) -> None:
    engine = engine_named("nearby", tmp_path / "engine")
    ids = engine.submit(elements(tmp_path, 2), SETTINGS)
    statuses = until_ended(engine, ids)
    assert [(one.failed, one.reason) for one in statuses.values()] == [(False, "")] * 2
    later = engine_named("nearby", tmp_path / "engine").statuses(ids)
    assert {one.state for one in later.values()} == {ElementState.ENDED}
    engine.close()
