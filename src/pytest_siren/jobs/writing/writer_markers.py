"""Marks of the processes that are writing into a job, or are about to.

A ``.writing-`` mark that is left over says that its process was killed: what it wrote last may be
missing in the index. A ``.session-`` mark says that a session has the job: no other resumes it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_siren.jobs.records.schema import CONFIG_FILE
from pytest_siren.jobs.writing.write import locked
from pytest_siren.sharing.processes import lives, started_at

_WRITING = ".writing-"
_SESSION = ".session-"


@dataclass(frozen=True)
class Writer:
    """A living process of this machine that has a job."""

    pid: int
    session: int
    """Id of the process that its session was started with; the same without xdist."""

    @property
    def orphaned(self) -> bool:
        """Whether its session is gone, so that it ends as soon as it has recorded its runs."""
        return not lives(self.session)


def mark(job: Path, session: int | None = None) -> Path:
    """Leave a mark of this process in the folder of ``job``; return its path, to be removed.

    ``session`` is the process that this one works for, if it is another one.
    """
    return _leave(job / f"{_WRITING}{_host()}-{os.getpid()}", session)


def claim(job: Path) -> Writer | None:
    """Take ``job`` for the session of this process, until ``release``.

    Returns the process that has it, if there is one: nothing is taken then. Of two sessions that
    claim it at the same time one is given it. Raises ``OSError``.
    """
    with locked(job / CONFIG_FILE):
        others = [one for one in writers(job) if os.getpid() not in (one.pid, one.session)]
        if not others:
            _leave(job / f"{_SESSION}{_host()}-{os.getpid()}", None)
        return min(others, key=lambda one: one.pid != one.session, default=None)


def release(job: Path) -> None:
    """Give back what this process has claimed."""
    with suppress(OSError):
        (job / f"{_SESSION}{_host()}-{os.getpid()}").unlink()


def marks(job: Path) -> list[Path]:
    """Return the marks of processes that have not ended as they should, or not yet."""
    return _found(job, _WRITING)


def writers(job: Path) -> Iterator[Writer]:
    """Yield the living processes of this machine that have ``job``."""
    for path in _found(job, _WRITING, _SESSION):
        pid = _pid(path)
        if pid is None:
            continue
        noted = _noted(path)
        if _is_alive(pid, noted):
            session = noted.get("session")
            yield Writer(pid, session if isinstance(session, int) and session > 0 else pid)


def forget_dead_writers(job: Path) -> None:
    """Remove the marks of processes of this machine that are no more."""
    for path in _found(job, _WRITING, _SESSION):
        pid = _pid(path)
        if pid is not None and not _is_alive(pid, _noted(path)):
            path.unlink(missing_ok=True)


def written_now(job: Path) -> bool:
    """Whether a process of this machine is writing into ``job``."""
    marks = ((_pid(path), path) for path in _found(job, _WRITING))
    return any(pid is not None and _is_alive(pid, _noted(path)) for pid, path in marks)


def _leave(path: Path, session: int | None) -> Path:
    pid = os.getpid()
    noted = {"started": started_at(pid), "session": session or pid}
    path.write_text(json.dumps(noted), encoding="utf-8")
    return path


def _found(job: Path, *prefixes: str) -> list[Path]:
    with os.scandir(job) as found:
        return [job / entry.name for entry in found if entry.name.startswith(prefixes)]


def _pid(path: Path) -> int | None:
    """Return the process of a mark; ``None`` for one of another machine."""
    host, _, pid = path.name.split("-", 1)[1].rpartition("-")
    return int(pid) if host == _host() and pid.isdecimal() and pid.isascii() else None


def _noted(path: Path) -> dict[str, Any]:
    """Return what a mark says; nothing for one of an earlier version, or that is being written."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _is_alive(pid: int, noted: dict[str, Any]) -> bool:
    """Whether the process of that id lives and is the one that left the mark."""
    if not lives(pid):
        return False
    started = noted.get("started")
    # Ids are given again, soon in a container that is started anew.
    return started is None or started == started_at(pid)


def _host() -> str:
    return socket.gethostname().replace("/", "_")
