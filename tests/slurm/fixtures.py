"""One Slurm for all processes that execute the tests; the last that used it stops it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_siren.sharing.state import lives
from tests.slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster, which other processes use at the same time."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    cluster = Cluster(shared / "slurm")
    users = shared / "slurm-users"
    mine = users / str(os.getpid())
    with _locked(shared / "slurm-lock"):
        users.mkdir(exist_ok=True)
        mine.touch()
        cluster.start()
    try:
        yield cluster
    finally:
        with _locked(shared / "slurm-lock"):
            mine.unlink()
            if not any(lives(int(user.name)) for user in users.iterdir()):
                cluster.stop()


@pytest.fixture
def slurm(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster for a test that harms nobody else's jobs; Slurm's commands know it."""
    yield from _in_use(slurm_cluster, monkeypatch, fcntl.LOCK_SH)


@pytest.fixture
def slurm_alone(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that no other test uses meanwhile. It is repaired afterwards."""
    yield from _in_use(slurm_cluster, monkeypatch, fcntl.LOCK_EX)
    slurm_cluster.start()


def _in_use(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: int) -> Iterator[Cluster]:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    with _locked(cluster.folder.parent / "slurm-in-use", how):
        yield cluster


@contextmanager
def _locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield
