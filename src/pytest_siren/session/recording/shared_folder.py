"""The temporary folder that the processes of one session share."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.sharing.state import Board, host, lives

_BOARD = "board"
_COLLECTED = "collected.json"
_PREFIX = "pytest-siren-"
_PROCESS = "process-"
"""Begins the names of files that say which processes use a folder."""


@dataclass(frozen=True)
class Collected:
    """Which of the collected items are runs; the same in all processes of a session."""

    runs: Sequence[tuple[int, int]]
    """Runs among the items, as half-open ranges of their positions."""
    window: int
    """Runs that one process keeps in flight."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Identity of a job's configuration to the path of its folder."""
    paid: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    """Models that may cost money, with their runs and whether their price is known."""
    recorded: Sequence[tuple[int, int]] = ()
    """Runs, as such ranges, that are reported from their records."""

    @property
    def total(self) -> int:
        return sum(stop - start for start, stop in self.runs)


@dataclass(frozen=True)
class SessionFolder:
    """Made by the first process that collects an eval file, removed by the controller."""

    path: Path

    @classmethod
    def of(cls, session_id: str) -> SessionFolder:
        """Return the folder of a session, which may not exist yet."""
        return cls(Path(tempfile.gettempdir()) / f"{_PREFIX}{session_id}")

    def board(self) -> Board:
        """Join the session's board, made if it is new. Raises ``OSError``, ``BoardError``."""
        private_folder(self.path)
        (self.path / f"{_PROCESS}{host()}-{os.getpid()}").touch(mode=0o600)
        return Board.open(self.path / _BOARD)

    def exists(self) -> bool:
        """Whether any process of the session has collected an eval file."""
        return (self.path / _BOARD).exists()

    def write_collected(self, collected: Collected) -> None:
        """Tell the controller what was collected; the first process to do so is enough."""
        temporary = self.path / f".collected-{os.getpid()}"
        temporary.write_text(json.dumps(asdict(collected)), encoding="utf-8")
        os.replace(temporary, self.path / _COLLECTED)

    def has_planned(self, records: str) -> bool:
        """Whether a process has written what those with the same jobs are to execute."""
        return (self.path / f"planned-{records}.json").exists()

    def write_planned(self, records: str, data: Mapping[str, Any]) -> None:
        """Tell the controller what the processes that share jobs are to execute."""
        temporary = self.path / f".planned-{os.getpid()}"
        temporary.write_text(json.dumps(data), encoding="utf-8")
        os.replace(temporary, self.path / f"planned-{records}.json")

    def planned(self) -> Iterator[dict[str, Any]]:
        """Yield what was written with ``write_planned``."""
        for path in sorted(self.path.glob("planned-*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def write_pid(self, worker: str) -> None:
        """Tell the controller which process the worker of that name is."""
        (self.path / f"{worker}.pid").write_text(str(os.getpid()), encoding="utf-8")

    def pid(self, worker: str) -> int | None:
        """Return the process of a worker; ``None`` when it saw no eval file."""
        try:
            return int((self.path / f"{worker}.pid").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def collected(self) -> Collected | None:
        """Return what was collected; ``None`` when there is no run in it."""
        try:
            data = json.loads((self.path / _COLLECTED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        runs = [(start, stop) for start, stop in data["runs"]]
        recorded = [(start, stop) for start, stop in data["recorded"]]
        paid = {model: (runs, priced) for model, (runs, priced) in data["paid"].items()}
        return Collected(runs, data["window"], data["jobs"], paid, recorded)

    def remove(self) -> None:
        """Remove the folder. Nothing in it is worth keeping."""
        shutil.rmtree(self.path, ignore_errors=True)


def private_folder(path: Path) -> None:
    """Make the folder ``path`` for this user alone, or use the one that this user made.

    Raises ``PermissionError`` for a link and for what another user made or may write to, and any
    other ``OSError``.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(errno.EPERM, "it is no folder", str(path))
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "other users may write to it", str(path))


def spare_jobs(session_id: str) -> Path:
    """Return a folder for jobs that no other user can foretell. Raises ``OSError``.

    ``session_id`` is random, and all processes of the session get the same folder.
    """
    folder = Path(tempfile.gettempdir()) / f"{_PREFIX}{session_id}-jobs"
    private_folder(folder)
    return folder / "jobs"


def sweep_temporary() -> None:
    """Remove the folders of this user's sessions whose processes have all been killed.

    A folder with a process of another machine, or with none so far, is left alone.
    """
    ours: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
        ours = [one for one in found if one.name.startswith(_PREFIX) and _is_own(one)]
    for folder in ours:
        with suppress(OSError):
            names = [one for one in os.listdir(folder.path) if one.startswith(_PROCESS)]
            if names and all(map(_has_died, names)):
                shutil.rmtree(folder.path)


def _is_own(entry: os.DirEntry[str]) -> bool:
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        # Its session has just removed it.
        return False


def _has_died(name: str) -> bool:
    where, _, pid = name.removeprefix(_PROCESS).rpartition("-")
    return where == host() and pid.isdecimal() and not lives(int(pid))


def ranges(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending ``positions`` as half-open ranges."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found
