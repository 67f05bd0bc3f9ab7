"""A pytest plugin that notes time, CPU and memory at the phases of a session.

It writes ``{mark: {"wall", "cpu", "memory"}}`` to the file that ``BENCHMARK_CLOCK`` names: seconds
of the clock and of this process's CPU, and bytes in memory after a garbage collection.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest


class Clock:
    """Notes the marks and writes them when pytest ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marks: dict[str, dict[str, float]] = {}

    def mark(self, name: str, measure_memory: bool = False) -> None:
        self.marks[name] = {"wall": time.perf_counter(), "cpu": time.process_time()}
        if measure_memory:
            gc.collect()
            self.marks[name]["memory"] = resident()

    def phase(self, name: str) -> Generator[None, object, object]:
        self.mark(f"{name} starts")
        result = yield
        self.mark(f"{name} ends", measure_memory=True)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        return (yield from self.phase("collection"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        return (yield from self.phase("loop"))

    # pytest's reporter shows the summary within this hook; so all that a session ends with counts.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        return (yield from self.phase("summary"))

    def pytest_unconfigure(self) -> None:
        self.path.write_text(json.dumps(self.marks))


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pytest_configure(config: pytest.Config) -> None:
    """Start the clock."""
    config.pluginmanager.register(Clock(Path(os.environ["BENCHMARK_CLOCK"])), "benchmark-clock")
