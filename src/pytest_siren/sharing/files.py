"""The shared state of a session as small files, for processes on several hosts.

Each process has a file of its own, which it replaces whole and all others read; what is asked of
all is told there too, so that no two processes write to one file. Only the shared cells of keys are
in one file, which changes under a lock: a file that is created exclusively, as every network file
system can. Nothing is mapped, and no lock of the operating system is needed.

What others did is seen at most ``FRESH`` seconds later. A process of another host that has not
written for ``SILENT`` seconds has died.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.sharing.state import KEY_CELLS, PRESENT, Gauge, host, lives

FRESH = 0.05
"""Seconds for which what was read or written last is good enough."""
BEAT = 5.0
"""Seconds after which a process writes though nothing has changed."""
SILENT = 20.0
"""Seconds after which a process of another host that has not written is taken for dead."""
_HELD = 10.0
"""Seconds after which a lock is taken from a process of another host that keeps it."""
_POLL = 0.002
_TEXT = 4096
"""Characters of a sentence."""

_CELLS, _LOCK = "cells.json", "lock"
_PROCESS = "process-"


@dataclass
class _Process:
    """What a process tells all others."""

    gauges: dict[str, float] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Name of a key to the requests in flight, and waiting."""
    stopped: tuple[float, str] | None = None
    settled: bool = False
    unpriced: tuple[float, str] | None = None
    key_stops: dict[str, tuple[float, str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    """Processes that this one knows to have died, one name for each death."""

    def plain(self, beat: int) -> bytes:
        return json.dumps({**vars(self), "beat": beat}).encode()

    @classmethod
    def read(cls, data: bytes) -> _Process:
        values: dict[str, Any] = json.loads(data)
        del values["beat"]
        return cls(**values)


@dataclass
class _Other:
    """What is known of another process."""

    told: _Process
    version: tuple[int, int]
    """Inode of its file, and when it was written in nanoseconds of the file server's clock."""
    seen: float
    """When that was new, by this process's monotonic clock."""


class SharedFiles:
    """One process's view of the files in ``folder``. Raises ``OSError`` like any file."""

    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, folder: Path) -> None:
        """Join the session whose files are in ``folder``, which must be there."""
        self.folder = folder
        self._mine = _Process()
        self._others: dict[str, _Other] = {}
        self._beat = 0
        self._dirty = False
        self._written = self._looked = time.monotonic()
        self._name = self._join()
        self._cells: dict[str, list[float]] = {}
        self._cells_read = 0.0
        self._holds = False
        self._write()
        self._look()

    @classmethod
    def open(cls, folder: Path) -> SharedFiles:
        """Join the session whose files are in ``folder``, which is made if it is new."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def close(self) -> None:
        """Leave: nothing is running here any more."""
        for gauge in PRESENT:
            self._mine.gauges.pop(gauge.name, None)
        self._mine.keys.clear()
        self._write()

    # This process's own gauges, and everybody's.

    def __getitem__(self, gauge: Gauge) -> float:
        return self._mine.gauges.get(gauge.name, 0.0)

    def __setitem__(self, gauge: Gauge, value: float) -> None:
        self._mine.gauges[gauge.name] = value
        self._changed()

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes; of present states, over those that are alive."""
        return sum(self._values(gauge, living=gauge in PRESENT))

    def earliest(self, gauge: Gauge) -> float:
        """Return the least value but 0 among the processes that are alive; 0 without one."""
        return min((one for one in self._values(gauge, living=True) if one), default=0.0)

    def _values(self, gauge: Gauge, *, living: bool) -> list[float]:
        return [told.gauges.get(gauge.name, 0.0) for told in self._told(living=living)]

    # What is asked of all processes.

    def stop(self, reason: str) -> None:
        """Ask every process to stop; the first reason stands."""
        if self.stopped is None:
            self._mine.stopped = (time.time(), reason[:_TEXT])
            self._write()

    @property
    def stopped(self) -> str | None:
        """Why every process shall stop; ``None`` while nobody asked for it."""
        return _first(told.stopped for told in self._told())

    def settle(self) -> None:
        """Tell every process that no further runs are needed; those in flight go on."""
        self._mine.settled = True
        self._write()

    @property
    def settled(self) -> bool:
        """Whether no further runs are needed."""
        return any(told.settled for told in self._told())

    def unpriced(self, reason: str) -> None:
        """Count an answer whose cost nobody knows; the first reason stands."""
        self[Gauge.UNPRICED] += 1
        if self._mine.unpriced is None:
            self._mine.unpriced = (time.time(), reason[:_TEXT])
            self._write()

    @property
    def why_unpriced(self) -> str | None:
        """Why the cost of an answer is unknown; ``None`` while all are known."""
        return _first(told.unpriced for told in self._told())

    # Processes that died.

    @property
    def lost(self) -> int:
        """How many processes have died so far."""
        return sum(len(told.lost) for told in self._told())

    def count_lost(self, pid: int) -> None:
        """Note that the process ``pid`` of this host died: nothing is running there any more."""
        self._mine.lost.append(f"{host()}-{pid}")
        self._write()

    # What belongs to a key, such as a model.

    def key(self, name: str) -> FileCells:
        """Return the cells of ``name``, the same for every process."""
        return FileCells(self, name)

    def stop_key(self, name: str, reason: str) -> None:
        """Ask every process to begin nothing more on the key ``name``; the first reason stands."""
        self._mine.key_stops.setdefault(name, (time.time(), reason[:_TEXT]))
        self._write()

    def key_stopped(self, name: str) -> str | None:
        """Return why nothing more is begun on the key ``name``; ``None`` while something may be."""
        return _first(told.key_stops.get(name) for told in self._told())

    def stopped_keys(self) -> list[str]:
        """Return the reasons for which keys are stopped."""
        everyone = self._told()
        names = dict.fromkeys(name for told in everyone for name in told.key_stops)
        found = (_first(told.key_stops.get(name) for told in everyone) for name in names)
        return [reason for reason in found if reason is not None]

    # The file of this process, and those of others.

    def _join(self) -> str:
        number = 0
        while True:
            name = f"{host()}-{os.getpid()}-{number}"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(self._path(name), flags, 0o600))
            except FileExistsError:
                number += 1
            else:
                return name

    def _path(self, name: str) -> Path:
        return self.folder / f"{_PROCESS}{name}.json"

    def _changed(self) -> None:
        self._dirty = True
        if time.monotonic() - self._written >= FRESH:
            self._write()

    def _write(self) -> None:
        self._beat += 1
        _replace(self._path(self._name), self._mine.plain(self._beat))
        self._dirty, self._written = False, time.monotonic()

    def _told(self, *, living: bool = False) -> list[_Process]:
        """Return what this process and all others tell, or only those that are alive."""
        now = time.monotonic()
        if now - self._written >= (FRESH if self._dirty else BEAT):
            self._write()
        if now - self._looked >= FRESH:
            self._look()
        lost = {name for other in self._others.values() for name in other.told.lost}
        lost.update(self._mine.lost)
        others = [
            other.told
            for name, other in self._others.items()
            if not living or self._lives(name, other, lost)
        ]
        return [self._mine, *others]

    def _lives(self, name: str, other: _Other, lost: set[str]) -> bool:
        process = name.rpartition("-")[0]
        where, _, pid = process.rpartition("-")
        if process in lost:
            return False
        if where == host():
            return pid.isdecimal() and lives(int(pid))
        return time.monotonic() - other.seen < SILENT

    def _look(self) -> None:
        self._looked = time.monotonic()
        for entry in os.scandir(self.folder):
            name = entry.name.removeprefix(_PROCESS).removesuffix(".json")
            if name == self._name or not entry.name.startswith(_PROCESS):
                continue
            with suppress(FileNotFoundError):
                with open(entry.path, "rb") as file:
                    found = os.fstat(file.fileno())
                    version = found.st_ino, found.st_mtime_ns
                    known = self._others.get(name)
                    if known is not None and known.version == version:
                        continue
                    data = file.read()
                if data:  # else it is joining
                    self._others[name] = _Other(_Process.read(data), version, self._looked)

    # The cells of keys, for ``FileCells``.

    def of_key(self, name: str) -> tuple[int, int]:
        """Return this process's requests in flight, and waiting, on a key."""
        return self._mine.keys.get(name, (0, 0))

    def set_of_key(self, name: str, in_flight: int, waiting: int) -> None:
        """Set them. Under the lock, others see them when it is given back."""
        self._mine.keys[name] = (in_flight, waiting)
        if self._holds:
            self._dirty = True
        else:
            self._changed()

    def totals(self, name: str) -> tuple[int, int]:
        """Return the requests of all living processes in flight, and waiting, on a key."""
        found = [told.keys.get(name, (0, 0)) for told in self._told(living=True)]
        return sum(one for one, _ in found), sum(two for _, two in found)

    def cell(self, name: str, cell: int) -> float:
        """Return a shared cell of a key."""
        if not self._holds and time.monotonic() - self._cells_read >= FRESH:
            self._read_cells()
        return self._cells.get(name, [0.0] * KEY_CELLS)[cell]

    def set_cell(self, name: str, cell: int, value: float) -> None:
        """Set a shared cell of a key."""
        if not self._holds:
            with self.lock():
                self.set_cell(name, cell, value)
            return
        self._cells.setdefault(name, [0.0] * KEY_CELLS)[cell] = value

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other processes (not threads of this one) from changing shared cells.

        What all of them did before is seen within it.
        """
        self._acquire()
        self._holds = True
        try:
            self._read_cells()
            self._look()
            before = json.dumps(self._cells)
            yield
            if (after := json.dumps(self._cells)) != before:
                _replace(self.folder / _CELLS, after.encode())
            if self._dirty:
                self._write()
        finally:
            self._holds = False
            self._release()

    def _read_cells(self) -> None:
        self._cells_read = time.monotonic()
        with suppress(FileNotFoundError):
            self._cells = json.loads((self.folder / _CELLS).read_bytes())

    def _acquire(self) -> None:
        path, waited = self.folder / _LOCK, 0.0
        holder: tuple[int, bytes] | None = None
        since = time.monotonic()
        while True:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            except FileExistsError:
                now = _holder(path)
                if now != holder:
                    holder, since = now, time.monotonic()
                elif now is not None and _is_left(now[1], time.monotonic() - since):
                    self._break(path, now)
                waited = min(waited + _POLL, 10 * _POLL)
                time.sleep(waited)
            else:
                try:
                    os.write(descriptor, self._name.encode())
                finally:
                    os.close(descriptor)
                return

    def _break(self, path: Path, holder: tuple[int, bytes]) -> None:
        """Take away the lock that ``holder`` died with, or give it back if it is another's now."""
        broken = path.with_name(f"{_LOCK}-{self._name}")
        with suppress(FileNotFoundError):
            os.rename(path, broken)
            if _holder(broken) != holder:
                with suppress(OSError):
                    os.link(broken, path)
            broken.unlink()

    def _release(self) -> None:
        (self.folder / _LOCK).unlink(missing_ok=True)


class FileCells:
    """The cells of one key in a session's files."""

    def __init__(self, state: SharedFiles, name: str) -> None:
        self._state = state
        self._name = name
        self.lock = state.lock

    def __getitem__(self, cell: int) -> float:
        return self._state.cell(self._name, cell)

    def __setitem__(self, cell: int, value: float) -> None:
        """Set a shared cell; hold ``lock()`` where the new value depends on the old."""
        self._state.set_cell(self._name, cell, value)

    @property
    def in_flight(self) -> int:
        """Requests of this process in flight."""
        return self._state.of_key(self._name)[0]

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        self._state.set_of_key(self._name, value, self.waiting)

    @property
    def waiting(self) -> int:
        """Requests of this process that wait for a place."""
        return self._state.of_key(self._name)[1]

    @waiting.setter
    def waiting(self, value: int) -> None:
        self._state.set_of_key(self._name, self.in_flight, value)

    def total_in_flight(self) -> int:
        """Return how many requests all living processes have in flight."""
        return self._state.totals(self._name)[0]

    def total_waiting(self) -> int:
        """Return how many requests of all living processes wait."""
        return self._state.totals(self._name)[1]


def _first(said: Iterator[tuple[float, str] | None] | Any) -> str | None:
    """Return the earliest of the sentences."""
    found = [one for one in said if one is not None]
    return str(min(found)[1]) if found else None


def _holder(path: Path) -> tuple[int, bytes] | None:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_ino, file.read()
    except FileNotFoundError:
        return None


def _is_left(holder: bytes, seconds: float) -> bool:
    """Whether the process that has held the lock for so long died with it."""
    where, _, pid = holder.decode(errors="replace").rpartition("-")[0].rpartition("-")
    if where == host() and pid.isdecimal():
        return not lives(int(pid))
    return seconds > _HELD


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
