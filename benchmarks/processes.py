"""Child processes, measured."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import ROOT

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
_LOOK_EVERY = 0.02


class FailedError(Exception):
    """A command did not do what was asked; the text says which and why."""


@dataclass(frozen=True)
class Command:
    """What to execute, where, with which variables besides a bare environment."""

    arguments: tuple[str, ...]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    good_codes: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Finished:
    """A finished process with the children that it waited for. Seconds and bytes."""

    wall: float
    cpu: float
    peak_memory: int
    output: str


def execute(
    command: Command, timeout: float = 900.0, watch: Callable[[float], None] | None = None
) -> Finished:
    """Execute and measure; ``watch`` is called with the seconds so far, often.

    Raises ``FailedError`` when the exit code is none of ``good_codes`` or the time is over.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # In the usual place pytest would delete, within our time, what other sessions have left there.
    environment["PYTEST_DEBUG_TEMPROOT"] = str(command.folder)
    environment |= {"NO_PROXY": "127.0.0.1", **command.variables}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status, usage = _wait(process, started, timeout, watch)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall = time.perf_counter() - started
        output.seek(0)
        text = output.read().decode(errors="replace")
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in command.good_codes:
        name = " ".join(Path(part).name for part in command.arguments[:4])
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
        raise FailedError(f"{name} exited with {process.returncode}: {last}\n{text[-3000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Finished(wall, cpu, usage.ru_maxrss * 1024, text)


def _wait(
    process: subprocess.Popen[bytes],
    started: float,
    timeout: float,
    watch: Callable[[float], None] | None,
) -> tuple[int, resource.struct_rusage]:
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return status, usage
        seconds = time.perf_counter() - started
        if seconds > timeout:
            raise FailedError(f"{Path(process.args[0]).name} took longer than {timeout:g} s")
        if watch is not None:
            watch(seconds)
        time.sleep(_LOOK_EVERY)


def python_path() -> dict[str, str]:
    """Return the variable that lets a child import ``benchmarks``."""
    return {"PYTHONPATH": str(ROOT)}
