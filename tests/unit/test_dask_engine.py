"""The engine for Dask: what becomes of elements, and what is said of it.

Stand-ins take the place of the elements' processes, for these tests are of Dask.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pytest_siren.distribute.cluster.element import Element
from pytest_siren.distribute.cluster.engines import by_name
from pytest_siren.distribute.cluster.engines.base import ElementState, ElementStatus, SubmitError
from pytest_siren.distribute.cluster.engines.by_dask import DaskEngine
from pytest_siren.distribute.cluster.engines.dask_process import differing
from pytest_siren.distribute.cluster.settings import Settings
from tests.dask_cluster import dask_cluster, worker_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with one worker, which executes one element at a time."""
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=1) as address:
        yield address


@pytest.fixture
def engine(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaskEngine]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    engine = DaskEngine(tmp_path / "engine", f"dask:{address}")
    yield engine
    engine.close()


def elements(folder: Path, number: int) -> list[Element]:
    module = "tests.unit.element_process"
    return [Element(folder, n, 1, folder, patience=5.0, module=module) for n in range(number)]


def until(
    engine: DaskEngine, ids: list[str], true: Callable[[ElementStatus], bool]
) -> Mapping[str, ElementStatus]:
    end = time.monotonic() + 60
    while True:
        statuses = engine.statuses(ids)
        if all(true(one) for one in statuses.values()):
            return statuses
        assert time.monotonic() < end, statuses
        time.sleep(0.2)


def ended(status: ElementStatus) -> bool:
    return status.state is ElementState.ENDED


def until_begun(engine: DaskEngine, ids: list[str], report: Path) -> None:
    end = time.monotonic() + 60
    while not report.exists() or not report.read_text():
        assert time.monotonic() < end, engine.statuses(ids)
        time.sleep(0.1)


def test_elements_wait_for_a_worker_run_and_are_cancelled(
    engine: DaskEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    ids = engine.submit(elements(tmp_path, 3), Settings())
    assert ids[0].startswith("siren-")
    until_begun(engine, ids, tmp_path / "reports/e0.0.jsonl")
    states = {one.state: one.reason for one in engine.statuses(ids).values()}
    assert states == {
        ElementState.RUNNING: "",
        ElementState.PENDING: "all workers are busy",
    }
    # The environment, which may hold keys, has gone with the start.
    assert len(list(engine.folder.glob("*.json"))) == 2
    assert {path.stat().st_mode & 0o777 for path in engine.folder.glob("*.json")} == {0o600}
    engine.cancel(ids[2:])
    [last] = engine.statuses(ids[2:]).values()
    assert ended(last)
    assert last.cancelled
    # Elements outlive who submitted them, and another process cancels the rest.
    engine.close()
    other = DaskEngine(engine.folder, engine.name)
    assert not any(ended(one) for one in other.statuses(ids[:2]).values())
    other.cancel(ids)
    statuses = until(other, ids, ended)
    assert all(one.failed for one in statuses.values())
    assert statuses[ids[0]].reason == "was asked to end"
    assert [path.name for path in tmp_path.glob("*.ended")] == ["e0.0.ended"]
    other.close()


def test_an_element_whose_worker_dies_has_failed_and_does_not_run_again(
    engine: DaskEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "sleeps")
    ids = engine.submit(elements(tmp_path, 1), Settings())
    until_begun(engine, ids, tmp_path / "reports/e0.0.jsonl")
    process = int((tmp_path / "reports/e0.0.jsonl").read_text())
    os.kill(worker_of(tmp_path, element=0), signal.SIGKILL)
    [status] = until(engine, ids, ended).values()
    assert status.failed
    assert not status.broken
    assert status.reason == "its worker has died"
    assert not Path(f"/proc/{process}").exists()
    # The cluster starts the worker anew, and Dask the task: it leaves the element alone.
    monkeypatch.setenv("ELEMENT_PROCESS", "")
    [next_] = until(engine, engine.submit(elements(tmp_path, 1), Settings()), ended).values()
    assert not next_.failed
    assert len(list((tmp_path / "elements").iterdir())) == 2


def test_an_environment_that_is_broken_is_named(
    engine: DaskEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEMENT_PROCESS", "broken")
    [status] = until(engine, engine.submit(elements(tmp_path, 1), Settings()), ended).values()
    assert status.broken
    assert "No module named 'their_suite'" in status.reason


def test_a_folder_that_workers_do_not_see_is_named(
    engine: DaskEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On one machine all folders are seen; this one is nowhere.
    missing = tmp_path / "elsewhere"
    monkeypatch.setattr(engine, "_request", lambda key, element: missing / f"{key}.json")
    [status] = until(engine, engine.submit(elements(tmp_path, 1), Settings()), ended).values()
    assert status.broken
    assert status.reason.startswith("FileNotFoundError: ")
    assert status.reason.endswith(f"; do all workers share {engine.folder}?")


def test_versions_that_differ_are_named() -> None:
    def having(**packages: str) -> dict[str, object]:
        return {"packages": {"python": "3.12.1.final.0", "distributed": "2026.8.0", **packages}}

    workers = {"tcp://b:1": having(python="3.12.9.final.0"), "tcp://c:1": having(python="3.11.2")}
    found = {"client": having(), "scheduler": having(), "workers": workers}
    assert differing(found) == (
        "its worker tcp://c:1 has python 3.11, and this session has python 3.12"
    )
    del workers["tcp://c:1"]
    assert differing(found) is None
    assert differing({**found, "scheduler": having(distributed="2024.1.0")}) == (
        "its scheduler has distributed 2024.1.0, and this session has distributed 2026.8.0"
    )


def test_a_scheduler_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    engine = DaskEngine(tmp_path / "engine", "dask:127.0.0.1:1")
    with pytest.raises(SubmitError) as caught:
        engine.submit(elements(tmp_path, 1), Settings())
    assert str(caught.value) == "dask:127.0.0.1:1: nothing answers there: Connection refused"
    assert not list(engine.folder.glob("*.json"))
    engine.close()


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_name, "find_spec", lambda name: None)
    with pytest.raises(pytest.UsageError) as caught:
        by_name.engine_named("dask", tmp_path)
    assert str(caught.value) == (
        "--siren-executor dask: Dask is not installed: pip install 'pytest-siren[dask]'"
    )


def test_an_address_is_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(pytest.UsageError, match="the address of the scheduler is missing"):
        by_name.engine_named("dask:", tmp_path)
