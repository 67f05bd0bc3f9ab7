"""What each process of a session tells all others, in a small file of its own.

A process replaces its file whole, at most every ``fresh`` seconds, and looks at those of others as
often. Where there are many processes, one of them gathers what all tell in one more file, so that
the others have one file to read: the first by name, or the next one when that is silent. What a
process told is seen within three times ``fresh``. No process waits for another.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.sharing.listing import current_names
from pytest_siren.sharing.state import PRESENT, host, lives

FRESH = 0.05
"""Seconds for which what was read or written last is good enough, at least."""
_FRESH_EACH = 0.005
"""The same for each process: with 200 of them a second."""
BEAT = 5.0
"""Seconds between two signs of life of a process that tells nothing new."""
SILENT = 20.0
"""Seconds after which a process of another host that gives no sign of life is taken for dead."""
FEW = 16
"""Processes that look at each other's files; more look at what one of them gathers."""
_LISTED = 1.0
"""Seconds between two looks for processes that are new."""
_LATE = 4
"""How many times ``fresh`` the gathered file may be old before the next process gathers."""
_PREFIX, _SUFFIX = "process-", ".json"
_GATHERED = "gathered.json"


@dataclass
class Told:
    """What a process tells all others."""

    gauges: dict[str, float] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Name of a key to the requests in flight, and waiting."""
    keys_beat: int = 0
    """How many times they have changed."""
    stopped: tuple[float, str] | None = None
    settled: bool = False
    unpriced: tuple[float, str] | None = None
    key_stops: dict[str, tuple[float, str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    """Processes that this one knows to have died, one name for each death."""
    left: bool = False
    """Whether it has nothing more to tell."""
    beat: int = 0
    """How many times it has been told."""


@dataclass
class _Other:
    """What is known of another process."""

    told: Told
    version: tuple[int, int] = (0, 0)
    """Inode of its file, and when it was written in nanoseconds of the file server's clock."""
    seen: float = 0.0
    """When it last gave a sign of life, by this process's monotonic clock."""


@dataclass
class Totals:
    """What all others tell, added up; of present states, what those tell that are alive."""

    gauges: dict[str, float] = field(default_factory=dict)
    earliest: dict[str, float] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    alive: int = 0
    """How many of them are alive."""
    lost: int = 0
    settled: bool = False
    stopped: list[tuple[float, str]] = field(default_factory=list)
    unpriced: list[tuple[float, str]] = field(default_factory=list)
    key_stops: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def add(self, told: Told, *, alive: bool) -> None:
        self._add_gauges(told, alive=alive)
        self.lost += len(told.lost)
        self.settled = self.settled or told.settled
        self.stopped.extend([told.stopped] if told.stopped else [])
        self.unpriced.extend([told.unpriced] if told.unpriced else [])
        for name, stop in told.key_stops.items():
            self.key_stops.setdefault(name, []).append(stop)

    def _add_gauges(self, told: Told, *, alive: bool) -> None:
        self.alive += alive and not told.left
        for name, value in told.gauges.items():
            if alive or name not in _PRESENT:
                self.gauges[name] = self.gauges.get(name, 0.0) + value
            if alive and value:
                self.earliest[name] = min(value, self.earliest.get(name, value))
        if alive:
            for name, (in_flight, waiting) in told.keys.items():
                before = self.keys.get(name, (0, 0))
                self.keys[name] = before[0] + in_flight, before[1] + waiting


_PRESENT = frozenset(gauge.name for gauge in PRESENT)


class Peers:
    """The files of the processes in ``folder``, for one of them. Raises ``OSError``."""

    def __init__(self, folder: Path) -> None:
        """Join: from now on there is a file of this process."""
        self.mine = Told()
        """What this process tells; call ``changed`` after a change."""
        self._folder = folder
        self._others: dict[str, _Other] = {}
        self._totals = Totals()
        self._dirty = False
        self._written = self._looked = self._listed = 0.0
        self._gathered = (0, 0), 0.0
        """Version of the gathered file, and when it was first seen."""
        self._asked: dict[str, float] = {}
        self.name = self._join()
        """Host, process id and a number, joined by ``-``."""
        self.fresh = FRESH
        """Seconds for which what is known of others, and what they know, is good enough."""
        self.write()
        self.look()
        self._left = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def leave(self) -> None:
        """Tell that nothing is running here any more, and give no further sign of life."""
        self._left.set()
        for gauge in PRESENT:
            self.mine.gauges.pop(gauge.name, None)
        self.mine.keys.clear()
        self.mine.keys_beat += 1
        self.mine.left = True
        self.write()

    def changed(self, *, later: bool = False) -> None:
        """Tell what has changed, now or when ``fresh`` is over; or only then."""
        self._dirty = True
        if not later and time.monotonic() - self._written >= self.fresh:
            self.write()

    def write(self) -> None:
        """Tell others, now."""
        self.mine.beat += 1
        replace(self._path(self.name), json.dumps(vars(self.mine)).encode(), self.name)
        self._dirty, self._written = False, time.monotonic()

    # What others tell.

    def totals(self) -> Totals:
        """Return what all others tell, added up."""
        self._keep_up()
        return self._totals

    def living(self, process: str) -> bool:
        """Whether the process ``HOST-PID`` lives, as far as one can tell.

        One that has not been seen yet may come within ``SILENT`` seconds from the first question.
        """
        self._keep_up()
        where, _, pid = process.rpartition("-")
        if where == host():
            return pid.isdecimal() and lives(int(pid))
        known = [name for name in self._others if name.rpartition("-")[0] == process]
        if known:
            lost = self._lost()
            return any(self._lives(name, self._others[name], lost) for name in known)
        now = time.monotonic()
        return now - self._asked.setdefault(process, now) < SILENT

    def learn(self, keys_of: dict[str, tuple[int, dict[str, tuple[int, int]]]]) -> None:
        """Take over what others told of keys elsewhere if it is newer: name to beat and keys."""
        for name, (beat, keys) in keys_of.items():
            if name != self.name:
                other = self._others.setdefault(name, _Other(Told(), seen=time.monotonic()))
                if beat > other.told.keys_beat:
                    other.told.keys_beat, other.told.keys = beat, keys
        self._add_up()

    def look(self) -> None:
        """Look at what others tell, now."""
        now = self._looked = time.monotonic()
        if len(self._others) < FEW:
            self._read_all(now)
        elif not self._read_gathered(now):
            self._read_all(now)
            self._gather(now)
        self._add_up()
        self.fresh = max(FRESH, _FRESH_EACH * (1 + self._totals.alive))

    def _keep_up(self) -> None:
        now = time.monotonic()
        if self._dirty and now - self._written >= self.fresh:
            self.write()
        if now - self._looked >= self.fresh:
            self.look()

    def _add_up(self) -> None:
        lost, totals = self._lost(), Totals()
        for name, other in self._others.items():
            totals.add(other.told, alive=self._lives(name, other, lost))
        self._totals = totals

    def _lost(self) -> set[str]:
        lost = set(self.mine.lost)
        lost.update(name for other in self._others.values() for name in other.told.lost)
        return lost

    def _lives(self, name: str, other: _Other, lost: Iterable[str]) -> bool:
        process = name.rpartition("-")[0]
        where, _, pid = process.rpartition("-")
        if process in lost:
            return False
        if where == host():
            return pid.isdecimal() and lives(int(pid))
        return time.monotonic() - other.seen < SILENT

    # The files.

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
        return self._folder / f"{_PREFIX}{name}{_SUFFIX}"

    def _beat(self) -> None:
        """Give signs of life, also while this process is busy with something else."""
        path = self._path(self.name)
        while not self._left.wait(BEAT):
            with suppress(OSError):  # What is wrong shows when something is told.
                os.utime(path)

    def _find(self) -> None:
        for entry in current_names(self._folder):
            if entry.startswith(_PREFIX) and entry.endswith(_SUFFIX):
                name = entry.removeprefix(_PREFIX).removesuffix(_SUFFIX)
                if name != self.name:
                    self._others.setdefault(name, _Other(Told(), seen=time.monotonic()))

    def _read_all(self, now: float) -> None:
        if now - self._listed >= max(_LISTED, self.fresh):
            self._find()
            self._listed = now
        for name, other in self._others.items():
            version, data = read_if_new(self._path(name), other.version)
            if version != other.version:
                other.version, other.seen = version, now
            if data:  # Else it is joining.
                self._take(other, json.loads(data))

    def _take(self, other: _Other, plain: dict[str, Any]) -> None:
        told = Told(**plain)
        if told.beat > other.told.beat:
            if told.keys_beat < other.told.keys_beat:
                told.keys, told.keys_beat = other.told.keys, other.told.keys_beat
            other.told = told

    def _gather(self, now: float) -> None:
        """Write what all tell, and how many seconds ago each gave a sign of life."""
        told = {name: (now - one.seen, vars(one.told)) for name, one in self._others.items()}
        told[self.name] = 0.0, vars(self.mine)
        data = json.dumps(told).encode()
        replace(self._folder / _GATHERED, data, self.name)

    def _read_gathered(self, now: float) -> bool:
        """Read what another process has gathered; ``False`` if it is for this one to do."""
        if self._is_first():
            return False
        known, since = self._gathered
        version, data = read_if_new(self._folder / _GATHERED, known)
        if data is None:
            return now - since < _LATE * self.fresh
        self._gathered = version, now
        for name, (age, plain) in json.loads(data).items():
            if name != self.name:
                other = self._others.setdefault(name, _Other(Told()))
                other.seen = max(other.seen, now - age)
                self._take(other, plain)
        return True

    def _is_first(self) -> bool:
        lost = self._lost()
        return not any(
            name < self.name and not other.told.left and self._lives(name, other, lost)
            for name, other in self._others.items()
        )


def replace(path: Path, data: bytes, owner: str) -> None:
    """Replace a file whole. ``owner`` has no other file of that name under way."""
    temporary = path.with_name(f".{path.name}.{owner}")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def read_if_new(path: Path, known: tuple[int, int]) -> tuple[tuple[int, int], bytes | None]:
    """Return the version of a file, and its content if that is not the known version."""
    try:
        # Opened anew, for that is when a network file system asks the server.
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            version = found.st_ino, found.st_mtime_ns
            return version, file.read() if version != known else None
    except FileNotFoundError:
        return known, None
