"""Marks of the processes that are writing into a job.

One that is left over says that its process was killed: what it wrote last may be missing in the
index.
"""

from __future__ import annotations

import os
from pathlib import Path

from pytest_siren.sharing.processes import host, lives

_PREFIX = ".writing-"


def mark(job: Path) -> Path:
    """Leave a mark of this process in the folder of ``job``; return its path, to be removed."""
    path = job / f"{_PREFIX}{host()}-{os.getpid()}"
    path.touch()
    return path


def marks(job: Path) -> list[Path]:
    """Return the marks of processes that have not ended as they should, or not yet."""
    with os.scandir(job) as found:
        return [job / entry.name for entry in found if entry.name.startswith(_PREFIX)]


def forget_dead_writers(job: Path) -> None:
    """Remove the marks of processes of this machine that are no more."""
    for path in marks(job):
        where, _, pid = path.name.removeprefix(_PREFIX).rpartition("-")
        if where == host() and pid.isdecimal() and not lives(int(pid)):
            path.unlink(missing_ok=True)
