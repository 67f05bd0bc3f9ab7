"""Tests that call a model, as one writes them for pytest-asyncio and for RAMPART.

Both run one test after the other, so they are given fewer runs.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from benchmarks.contest import Entry
from benchmarks.install import python_of
from benchmarks.peers import Peer
from benchmarks.processes import Command, FailedError, Finished
from benchmarks.work import Work

_INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
"""


def one_call(folder: Path, work: Work, name: str, tests: str) -> Command:
    """Copy the tests and return the command that runs them."""
    (folder / "pytest.ini").write_text(_INI)
    (folder / "test_one_call.py").write_text((Path(__file__).parent / tests).read_text())
    python = python_of(name)
    arguments = (str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider")
    return Command(arguments, folder, {"BENCHMARK_RUNS": str(work.runs)})


def check(folder: Path, work: Work, finished: Finished) -> None:
    """Raise unless all tests passed."""
    if not re.search(rf"\b{work.runs} passed\b", finished.output):
        raise FailedError(f"not {work.runs} tests passed:\n{finished.output[-2000:]}")


def _peer(name: str, tests: str, packages: tuple[str, ...]) -> Peer:
    return Peer(
        name=name,
        python=python_of(name),
        settings=f"`peers/{tests}`: one client and one event loop for all tests",
        packages=packages,
        entries={"one-call": (Entry(name, partial(one_call, name=name, tests=tests), check),)},
        cannot={"couples": "it has no AgentDojo"},
    )


def peers() -> list[Peer]:
    """Return both."""
    common = ("pytest", "pytest-asyncio", "openai", "httpx")
    return [
        _peer("rampart", "rampart_tests.py", ("rampart", "pyrit", *common)),
        _peer("pytest-asyncio", "asyncio_tests.py", common),
    ]
