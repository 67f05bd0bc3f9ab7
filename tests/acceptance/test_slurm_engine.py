"""The engine for Slurm, on a real one: what becomes of elements, and what is said of it.

Stand-ins take the place of the elements' processes, for these tests are of Slurm.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pytest_siren.distribute.cluster.element import Element
from pytest_siren.distribute.cluster.engines.base import ElementState, ElementStatus, SubmitError
from pytest_siren.distribute.cluster.engines.slurm import SlurmEngine
from pytest_siren.distribute.cluster.settings import Settings
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(time_minutes=60, cpus_per_task=1, mem_gb=1)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")


@pytest.fixture
def engine(tmp_path: Path) -> SlurmEngine:
    return SlurmEngine(tmp_path / "engine")


def elements(folder: Path, number: int) -> list[Element]:
    module = "tests.unit.element_process"
    return [Element(folder, n, 1, folder, patience=5.0, module=module) for n in range(number)]


def until(
    engine: SlurmEngine, ids: list[str], true: Callable[[ElementStatus], bool]
) -> Mapping[str, ElementStatus]:
    end = time.monotonic() + 90
    while True:
        statuses = engine.statuses(ids)
        if all(true(one) for one in statuses.values()):
            return statuses
        assert time.monotonic() < end, statuses
        time.sleep(0.3)


def ended(status: ElementStatus) -> bool:
    return status.state is ElementState.ENDED


def begun(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("reports/*.jsonl") if path.read_text()}


def until_begun(engine: SlurmEngine, ids: list[str], folder: Path, names: set[str]) -> None:
    end = time.monotonic() + 60
    while not names <= begun(folder):
        assert time.monotonic() < end, (begun(folder), engine.statuses(ids))
        time.sleep(0.2)


def test_an_array_is_submitted_followed_and_cancelled(
    slurm: Cluster, engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A session may itself run in a job, whose variables are not those of the elements.
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    ids = engine.submit(elements(tmp_path, 3), SETTINGS)
    job = ids[0].partition("_")[0]
    assert ids == [f"{job}_{number}" for number in range(3)]
    until_begun(engine, ids, tmp_path, {"e0.0", "e1.0", "e2.0"})
    statuses = until(engine, ids, lambda one: one.state is ElementState.RUNNING)
    assert all(one.log is not None and one.log.exists() for one in statuses.values())
    engine.cancel(ids[:1])
    [first] = until(engine, ids[:1], ended).values()
    assert first.failed
    assert first.cancelled
    assert first.reason == "CANCELLED by 0"
    # Another process comes back to the rest, and cancels all, also what has ended.
    other = SlurmEngine(tmp_path / "engine")
    other.cancel(ids)
    assert {one.reason for one in until(other, ids, ended).values()} == {"CANCELLED by 0"}
    # Each was asked to end before it was killed.
    assert len(list(tmp_path.glob("*.ended"))) == 3


def test_a_pending_element_says_why_and_can_be_cancelled_alone(
    slurm: Cluster, engine: SlurmEngine, tmp_path: Path
) -> None:
    settings = Settings(time_minutes=60, cpus_per_task=1, mem_gb=1, array_parallelism=1)
    ids = engine.submit(elements(tmp_path, 3), settings)
    until_begun(engine, ids, tmp_path, {"e0.0"})
    statuses = until(engine, ids[1:], lambda one: bool(one.reason))
    assert {one.reason for one in statuses.values()} == {"JobArrayTaskLimit"}
    assert {one.state for one in statuses.values()} == {ElementState.PENDING}
    # Slurm's accounts never hear of it.
    engine.cancel(ids[2:])
    [last] = until(engine, ids[2:], ended).values()
    assert last.failed
    assert last.cancelled
    assert last.reason == "CANCELLED before it began"
    engine.cancel(ids)
    until(engine, ids, ended)


@pytest.mark.parametrize("asks", ["signal", "requeue"])
def test_an_element_that_is_preempted_or_requeued_starts_again(
    slurm: Cluster, engine: SlurmEngine, tmp_path: Path, asks: str
) -> None:
    ids = engine.submit(elements(tmp_path, 1), SETTINGS)
    until_begun(engine, ids, tmp_path, {"e0.0"})
    if asks == "signal":
        slurm.command("scancel", "--signal=USR2", *ids)
    else:
        slurm.command("scontrol", "requeue", *ids)
    until_begun(engine, ids, tmp_path, {"e0.0-r1"})
    assert [path.stem for path in tmp_path.glob("*.ended")] == ["e0.0"]
    [status] = engine.statuses(ids).values()
    assert status.state is ElementState.RUNNING
    engine.cancel(ids)
    until(engine, ids, ended)


def test_an_element_that_ends_leaves_its_own_words(
    slurm: Cluster, engine: SlurmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "broken")
    [status] = until(engine, engine.submit(elements(tmp_path, 1), SETTINGS), ended).values()
    assert status.broken
    assert "No module named 'their_suite'" in status.reason


@pytest.mark.parametrize(
    ("settings", "words", "advice"),
    [
        (
            Settings(partition="nosuch", mem_gb=1),
            "invalid partition specified: nosuch",
            "choose a partition with --slurm-partition or slurm.partition: main, abrupt, urgent",
        ),
        (
            Settings(mem_gb=100),
            "Requested node configuration is not available",
            "an element asks for 100 GB, 4 CPUs and 0 GPUs: lower slurm.mem_gb, ",
        ),
    ],
)
def test_what_sbatch_refuses_is_told_with_what_to_do(
    slurm: Cluster,
    engine: SlurmEngine,
    tmp_path: Path,
    settings: Settings,
    words: str,
    advice: str,
) -> None:
    with pytest.raises(SubmitError) as raised:
        engine.submit(elements(tmp_path, 2), settings)
    assert words in str(raised.value)
    assert advice in str(raised.value)


def test_elements_are_not_taken_for_dead_while_slurm_does_not_answer(
    slurm_alone: Cluster, engine: SlurmEngine, tmp_path: Path
) -> None:
    ids = engine.submit(elements(tmp_path, 1), SETTINGS)
    until_begun(engine, ids, tmp_path, {"e0.0"})
    engine.statuses(ids)
    slurm_alone.stop_controller()
    # Nobody waits for the answer that does not come.
    since = time.monotonic()
    engine.statuses(ids)
    assert time.monotonic() - since < 2.0
    [status] = until(engine, ids, lambda one: one.state is ElementState.UNKNOWN).values()
    assert status.reason.startswith("Slurm does not answer: ")
    slurm_alone.start_controller()
    until(engine, ids, lambda one: one.state is ElementState.RUNNING)
    # Let it end by itself.
    os.kill(int((tmp_path / "reports/e0.0.jsonl").read_text()), signal.SIGINT)
    [status] = until(engine, ids, ended).values()
    assert not status.failed
    engine.close()


@pytest.mark.nightly
@pytest.mark.parametrize("notice", [True, False], ids=["a signal asked for", "SIGTERM only"])
def test_an_element_that_has_to_give_way_starts_again(
    slurm_alone: Cluster, engine: SlurmEngine, tmp_path: Path, notice: bool
) -> None:
    # The other one concerns clouds; there has to be one.
    parameter = "preempt_send_user_signal" if notice else "idle_on_node_suspend"
    slurm_alone.reconfigure("SlurmctldParameters", parameter)
    ids = engine.submit(elements(tmp_path, 1), SETTINGS)
    until_begun(engine, ids, tmp_path, {"e0.0"})
    urgent = ("--partition=urgent", "--nodes=4", "--mem=100M", "--exclusive", "--output=/dev/null")
    slurm_alone.command("sbatch", "--quiet", *urgent, "--wrap=sleep 1")
    until_begun(engine, ids, tmp_path, {"e0.0-r1"})
    assert [path.stem for path in tmp_path.glob("*.ended")] == ["e0.0"]
    engine.cancel(ids)
    until(engine, ids, ended)
    slurm_alone.reconfigure("SlurmctldParameters", "preempt_send_user_signal")


@pytest.mark.nightly
def test_a_node_that_fails_is_replaced(
    slurm_alone: Cluster, engine: SlurmEngine, tmp_path: Path
) -> None:
    ids = engine.submit(elements(tmp_path, 2), SETTINGS)
    until_begun(engine, ids, tmp_path, {"e0.0", "e1.0"})
    node = slurm_alone.command("squeue", "-h", "-r", "-j", ids[0], "-o", "%N")
    slurm_alone.kill_node(node)
    until_begun(engine, ids, tmp_path, {"e0.0-r1"})
    until(engine, ids, lambda one: one.state is ElementState.RUNNING)
    engine.cancel(ids)
    until(engine, ids, ended)
