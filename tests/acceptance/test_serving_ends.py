"""However a session ends, nothing listens any more where its runs were served."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_python_agents import shop

pytestmark = pytest.mark.slow

AGENT = """
import asyncio, os


async def answer(prompt, mcp_url):
    with open("addresses.txt", "a") as addresses:
        addresses.write(f"{os.getpid()} {mcp_url}\\n")
    how = os.environ.get("HOW")
    if how == "waits" or (how == "waits once" and not os.path.exists("killed")):
        await asyncio.sleep(300)
    while how == "cannot be cancelled":
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            pass
    return "Good value"
"""


@pytest.fixture
def served(project: Project) -> Project:
    shop(project, AGENT)
    return project


def addresses(project: Project) -> list[tuple[int, str]]:
    """Return the process and the address of each run that was served."""
    path = project.path / "addresses.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), url) for pid, url in (line.split() for line in lines)]


def check_closed(project: Project) -> None:
    found = addresses(project)
    assert found
    for _, url in found:
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


DISTRIBUTIONS = pytest.mark.parametrize("dist", [[], ["-n2"]], ids=["alone", "-n2"])


@DISTRIBUTIONS
def test_a_session_that_ends(served: Project, dist: list[str]) -> None:
    served.run(*dist, "evals", "--runs=4")
    assert [one["status"] for one in served.results()] == ["scored"] * 4
    found = addresses(served)
    assert len({url for _, url in found}) == 4
    # One server per process.
    assert len({urlsplit(url).port for _, url in found}) == len({pid for pid, _ in found})
    check_closed(served)


@DISTRIBUTIONS
def test_ctrl_c(served: Project, dist: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW", "waits")
    with open(served.path / "output.txt", "wb") as output:
        process = served.spawn(output.fileno(), *dist, "evals", "--siren-grace=0")
    wait_for(lambda: addresses(served))
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(100) == 2
    check_closed(served)


@pytest.mark.inside  # The end of a process would close everything.
@pytest.mark.usefixtures("impatient")
def test_a_run_that_cannot_be_cancelled(served: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    served.run("evals")  # Whatever takes long to import is imported now.
    monkeypatch.setenv("HOW", "cannot be cancelled")
    served.run("evals", "--siren-run-timeout=2")
    assert len(addresses(served)) == 2
    check_closed(served)


def test_a_session_that_is_killed(served: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW", "waits")
    with open(served.path / "output.txt", "wb") as output:
        process = served.spawn(output.fileno(), "evals")
    wait_for(lambda: addresses(served))
    os.kill(process.pid, signal.SIGKILL)
    process.wait(100)
    check_closed(served)


def test_a_worker_that_is_killed(served: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW", "waits once")
    with open(served.path / "output.txt", "wb") as output:
        process = served.spawn(output.fileno(), "-n2", "evals")
    wait_for(lambda: addresses(served))
    [(worker, _)] = addresses(served)
    Path(served.path / "killed").touch()
    os.kill(worker, signal.SIGKILL)
    process.wait(100)
    assert len(addresses(served)) == 2  # Another worker executed it.
    check_closed(served)
