"""What all processes of a session share, whatever it lies on: ``Board`` or ``SharedFiles``.

An executor chooses which. ``Board`` is a file that the processes of one host map into their memory;
``SharedFiles`` are small files in a folder that hosts share.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self


class Gauge(IntEnum):
    """Numbers of a process. The first three tell its present state, the others only grow."""

    RUNNING = 1
    """Runs in flight."""
    HELD = 2
    """Runs in flight that wait for a rate limit."""
    RESUMES_AT = 3
    """When the first of those may go on, in seconds since the epoch; 0 when none waits."""
    REQUESTS = 4
    """Model requests answered with success."""
    RETRIES = 5
    """Model requests that were refused or failed, and were sent again."""
    INPUT_TOKENS = 6
    OUTPUT_TOKENS = 7
    COST = 8
    """US dollars of priced requests."""
    UNPRICED = 9
    """Answers for whose model no price is known."""
    CANCELLED = 10
    """Runs that were cancelled in flight."""
    HUNG = 11
    """Calls that went on when the process ended, though their runs had been stopped."""
    ENDED = 12
    """Runs whose outcome is recorded, in this session or before, as far as pytest may report it."""


PRESENT = frozenset({Gauge.RUNNING, Gauge.HELD, Gauge.RESUMES_AT})
"""Gauges that a process which is no more has no part in."""
KEY_CELLS = 16
"""Shared cells of each key."""


class SharedStateError(Exception):
    """There is no place for the state of a session, or no process can join it any more."""


class KeyCells(Protocol):
    """Numbers that belong to one key, such as a model: shared ones, and two of this process."""

    in_flight: int
    """Requests of this process in flight."""
    waiting: int
    """Requests of this process that wait for a place."""

    @property
    def portion(self) -> float:
        """Seconds of a cap that all processes may take in advance; 0 where a lock costs little."""
        ...

    def __getitem__(self, cell: int) -> float: ...

    def __setitem__(self, cell: int, value: float) -> None:
        """Set a shared cell; hold ``lock()`` where the new value depends on the old."""
        ...

    def assign(self, values: Mapping[int, float]) -> None:
        """Set some cells at once, where the new values do not depend on the old."""
        ...

    def total_in_flight(self) -> int:
        """Return how many requests all living processes have in flight."""
        ...

    def total_waiting(self) -> int:
        """Return how many requests of all living processes wait."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep all others from changing shared cells; do not enter it twice."""
        ...


class SharedState(Protocol):
    """One process's view of what its session shares.

    A process sets its own gauges and reads everybody's. One that is killed leaves its counters
    behind, and nobody waits for it.
    """

    @property
    def clock(self) -> Callable[[], float]:
        """Clock of the times in shared cells, in seconds; the same in all processes."""
        ...

    def close(self) -> None:
        """Leave: nothing is running here any more."""
        ...

    # This process's own gauges, and everybody's.

    def __getitem__(self, gauge: Gauge) -> float: ...

    def __setitem__(self, gauge: Gauge, value: float) -> None: ...

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes; of present states, over those that are alive."""
        ...

    def earliest(self, gauge: Gauge) -> float:
        """Return the least value but 0 among the processes that are alive; 0 without one."""
        ...

    # What is asked of all processes.

    def stop(self, reason: str) -> None:
        """Ask every process to stop; the first reason stands."""
        ...

    @property
    def stopped(self) -> str | None:
        """Why every process shall stop; ``None`` while nobody asked for it."""
        ...

    def settle(self) -> None:
        """Tell every process that no further runs are needed; those in flight go on."""
        ...

    @property
    def settled(self) -> bool:
        """Whether no further runs are needed."""
        ...

    def unpriced(self, reason: str) -> None:
        """Count an answer whose cost nobody knows; the first reason stands."""
        ...

    @property
    def why_unpriced(self) -> str | None:
        """Why the cost of an answer is unknown; ``None`` while all are known."""
        ...

    # Processes that died.

    @property
    def lost(self) -> int:
        """How many processes have died so far."""
        ...

    def count_lost(self, pid: int) -> None:
        """Note that the process ``pid`` of this host died: nothing is running there any more."""
        ...

    # What belongs to a key, such as a model.

    def key(self, name: str) -> KeyCells:
        """Return the cells of ``name``, the same for every process. Raises ``SharedStateError``."""
        ...

    def stop_key(self, name: str, reason: str) -> None:
        """Ask every process to begin nothing more on the key ``name``; the first reason stands."""
        ...

    def key_stopped(self, name: str) -> str | None:
        """Return why nothing more is begun on the key ``name``; ``None`` while something may be."""
        ...

    def stopped_keys(self) -> list[str]:
        """Return the reasons for which keys are stopped."""
        ...


class SharedSpend:
    """Adds the answers of this process to what its session spends."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def add(
        self, input_tokens: int, output_tokens: int, cost: Decimal | None, unknown: str = ""
    ) -> None:
        state = self._state
        state[Gauge.INPUT_TOKENS] += input_tokens
        state[Gauge.OUTPUT_TOKENS] += output_tokens
        if cost is None:
            state.unpriced(unknown)
        elif cost:
            state[Gauge.COST] += float(cost)


def host() -> str:
    """Return the name of this machine, as part of a file's name."""
    return socket.gethostname().replace("/", "_")


def lives(pid: int) -> bool:
    """Tell whether a process of that id runs, whoever's it is.

    One that has ended does not, though its parent has not asked for its exit code yet.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    except OverflowError:
        return False
    return _stat(pid)[:1] not in (["Z"], ["X"])


def started_at(pid: int) -> str | None:
    """Return when a process was started, as its machine counts; ``None`` if that is unknown.

    With the id it tells a process from a later one that was given the same id.
    """
    return next(iter(_stat(pid)[19:]), None)


def _stat(pid: int) -> list[str]:
    """Return what proc(5) says of a process from its state on; nothing where it says nothing."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The second field, the name in parentheses, may hold anything.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


_PROCESSES = 512
MOST_KEYS = 1024
"""Models that one session can have."""
_KEY_NAME = 256
_STOP_TEXT = 4096
_TEXT = 512
"""Bytes of a sentence on one key, or on what the session spends."""
_GONE = 0
"""Stands for the process id of a process that is known to have died."""

_HEADER = 16
_USED, _STOPPED, _LOST, _KEYS_USED, _SETTLED = range(5)


_GAUGES = 16

_SLOTS_AT = _HEADER
_KEYS_AT = _SLOTS_AT + _PROCESSES * _GAUGES
_IN_FLIGHT_AT = _KEYS_AT + MOST_KEYS * KEY_CELLS
_WAITING_AT = _IN_FLIGHT_AT + MOST_KEYS * _PROCESSES
_CELLS = _WAITING_AT + MOST_KEYS * _PROCESSES
_NAMES_AT = _CELLS * 8
_STOP_AT = _NAMES_AT + MOST_KEYS * _KEY_NAME
_UNPRICED_AT = _STOP_AT + _STOP_TEXT
_KEY_STOPS_AT = _UNPRICED_AT + _TEXT
_SIZE = _KEY_STOPS_AT + MOST_KEYS * _TEXT


class BoardError(SharedStateError):
    """The file is no board, or no process can join it any more."""


class Board:
    """One process's view of the session's board: ``SharedState`` on one host."""

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, path: Path) -> None:
        """Join the board at ``path``. Raises ``BoardError``, ``OSError``."""
        self.path = path
        self._process = os.getpid()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(self._descriptor).st_size != _SIZE:
            os.close(self._descriptor)
            raise BoardError(f"{path} is not the board of a session")
        self._bytes = mmap.mmap(self._descriptor, _SIZE)
        self._cells = memoryview(self._bytes).cast("d")
        self._slot = self._join()

    @classmethod
    def open(cls, path: Path) -> Board:
        """Join the board at ``path``, which is made if it is new."""
        if not path.exists():
            temporary = path.with_name(f".{path.name}-{os.getpid()}")
            with open(temporary, "xb") as file:
                file.truncate(_SIZE)
            with suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        return cls(path)

    def close(self) -> None:
        """Leave: nothing is running here any more."""
        for gauge in PRESENT:
            self[gauge] = 0.0
        self._cells.release()
        self._bytes.close()
        os.close(self._descriptor)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other processes (not threads of this one) from changing shared cells."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    # This process's own cells.

    def __getitem__(self, gauge: Gauge) -> float:
        return self._cells[self._slot + gauge]

    def __setitem__(self, gauge: Gauge, value: float) -> None:
        self._cells[self._slot + gauge] = value

    # Everybody's.

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes; of present states, over those that are alive."""
        return sum(
            value
            for pid, value in self._column(gauge)
            if value and (gauge not in PRESENT or _alive(pid))
        )

    def earliest(self, gauge: Gauge) -> float:
        """Return the least value but 0 among the processes that are alive; 0 without one."""
        found = (value for pid, value in self._column(gauge) if value and _alive(pid))
        return min(found, default=0.0)

    def _column(self, gauge: Gauge) -> Iterator[tuple[int, float]]:
        for process in range(int(self._cells[_USED])):
            at = _SLOTS_AT + process * _GAUGES
            yield int(self._cells[at]), self._cells[at + gauge]

    # The stop sign.

    def stop(self, reason: str) -> None:
        """Ask every process to stop; the first reason stands."""
        with self.lock():
            if not self._cells[_STOPPED]:
                text = reason.encode()[:_STOP_TEXT]
                self._bytes[_STOP_AT : _STOP_AT + len(text)] = text
                self._cells[_STOPPED] = len(text) + 1

    @property
    def stopped(self) -> str | None:
        """Why every process shall stop; ``None`` while nobody asked for it."""
        length = int(self._cells[_STOPPED])
        if not length:
            return None
        return self._bytes[_STOP_AT : _STOP_AT + length - 1].decode(errors="ignore")

    def unpriced(self, reason: str) -> None:
        """Count an answer whose cost nobody knows; the first reason stands."""
        self[Gauge.UNPRICED] += 1
        if not self._bytes[_UNPRICED_AT]:
            with self.lock():
                self._write(_UNPRICED_AT, reason)

    @property
    def why_unpriced(self) -> str | None:
        """Why the cost of an answer is unknown; ``None`` while all are known."""
        return self._read(_UNPRICED_AT)

    def _write(self, at: int, text: str) -> None:
        """Write a sentence unless there is one; its first byte comes last. Hold the lock."""
        encoded = text.encode(errors="replace")[: _TEXT - 1] or b"?"
        if not self._bytes[at]:
            self._bytes[at + 1 : at + len(encoded)] = encoded[1:]
            self._bytes[at] = encoded[0]

    def _read(self, at: int) -> str | None:
        if not self._bytes[at]:
            return None
        return self._bytes[at : at + _TEXT].partition(b"\0")[0].decode(errors="ignore")

    def settle(self) -> None:
        """Tell every process that no further runs are needed; those in flight go on."""
        self._cells[_SETTLED] = 1.0

    @property
    def settled(self) -> bool:
        """Whether no further runs are needed."""
        return bool(self._cells[_SETTLED])

    # Processes that died.

    @property
    def lost(self) -> int:
        """How many processes have died so far."""
        return int(self._cells[_LOST])

    def count_lost(self, pid: int) -> None:
        """Note that the process ``pid`` died: nothing is running there any more."""
        with self.lock():
            self._cells[_LOST] += 1
            for process in range(int(self._cells[_USED])):
                if self._cells[_SLOTS_AT + process * _GAUGES] == pid:
                    self._cells[_SLOTS_AT + process * _GAUGES] = _GONE

    # Cells that belong to a key, such as a model.

    def stop_key(self, name: str, reason: str) -> None:
        """Ask every process to begin nothing more on the key ``name``; the first reason stands."""
        try:
            index = self.key(name).index
        except BoardError:
            # Rather too little is done than something in vain.
            self.stop(reason)
            return
        with self.lock():
            self._write(_KEY_STOPS_AT + index * _TEXT, reason)

    def key_stopped(self, name: str) -> str | None:
        """Return why nothing more is begun on the key ``name``; ``None`` while something may be."""
        for at in self._stopped_keys():
            start = _NAMES_AT + (at - _KEY_STOPS_AT) // _TEXT * _KEY_NAME
            if self._bytes[start : start + _KEY_NAME] == _key_name(name):
                return self._read(at)
        return None

    def stopped_keys(self) -> list[str]:
        """Return the reasons for which keys are stopped."""
        reasons = (self._read(at) for at in self._stopped_keys())
        return [reason for reason in reasons if reason is not None]

    def _stopped_keys(self) -> list[int]:
        places = (_KEY_STOPS_AT + key * _TEXT for key in range(int(self._cells[_KEYS_USED])))
        return [at for at in places if self._bytes[at]]

    def key(self, name: str) -> SharedKey:
        """Return the cells of ``name``, the same for every process. Raises ``BoardError``."""
        wanted = _key_name(name)
        with self.lock():
            used = int(self._cells[_KEYS_USED])
            for index in range(used):
                at = _NAMES_AT + index * _KEY_NAME
                if self._bytes[at : at + _KEY_NAME] == wanted:
                    break
            else:
                index = used
                if index == MOST_KEYS:
                    raise BoardError(f"more than {MOST_KEYS} models in one session")
                at = _NAMES_AT + index * _KEY_NAME
                self._bytes[at : at + _KEY_NAME] = wanted
                self._cells[_KEYS_USED] = used + 1
        return SharedKey(self, index)

    def _join(self) -> int:
        with self.lock():
            used = int(self._cells[_USED])
            if used == _PROCESSES:
                raise BoardError(f"more than {_PROCESSES} processes in one session")
            self._cells[_USED] = used + 1
            slot = _SLOTS_AT + used * _GAUGES
            self._cells[slot] = self._process
        return slot


class SharedKey:
    """The cells of one key: 16 shared ones, and two of each process's own."""

    portion = 0.0

    def __init__(self, board: Board, index: int) -> None:
        self.board = board
        self.index = index
        self.lock = board.lock
        self._cells = board._cells
        self._shared = _KEYS_AT + index * KEY_CELLS
        self._in_flight = _IN_FLIGHT_AT + index * _PROCESSES
        self._waiting = _WAITING_AT + index * _PROCESSES
        self._process = (board._slot - _SLOTS_AT) // _GAUGES

    def __getitem__(self, cell: int) -> float:
        return self._cells[self._shared + cell]

    def __setitem__(self, cell: int, value: float) -> None:
        """Set a shared cell; hold ``lock()`` where the new value depends on the old."""
        self._cells[self._shared + cell] = value

    def assign(self, values: Mapping[int, float]) -> None:
        """Set some cells at once, where the new values do not depend on the old."""
        for cell, value in values.items():
            self[cell] = value

    @property
    def in_flight(self) -> int:
        """Requests of this process in flight."""
        return int(self._cells[self._in_flight + self._process])

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        self._cells[self._in_flight + self._process] = value

    @property
    def waiting(self) -> int:
        """Requests of this process that wait for a place."""
        return int(self._cells[self._waiting + self._process])

    @waiting.setter
    def waiting(self, value: int) -> None:
        self._cells[self._waiting + self._process] = value

    def total_in_flight(self) -> int:
        """Return how many requests all living processes have in flight."""
        return self._sum(self._in_flight)

    def total_waiting(self) -> int:
        """Return how many requests of all living processes wait."""
        return self._sum(self._waiting)

    def _sum(self, column: int) -> int:
        total = 0.0
        for process in range(int(self._cells[_USED])):
            value = self._cells[column + process]
            if value and _alive(int(self._cells[_SLOTS_AT + process * _GAUGES])):
                total += value
        return int(total)


def _key_name(name: str) -> bytes:
    encoded = name.encode(errors="replace")
    if len(encoded) > _KEY_NAME:
        digest = sha256(encoded).hexdigest().encode()
        encoded = encoded[: _KEY_NAME - len(digest)] + digest
    return encoded.ljust(_KEY_NAME, b"\0")


def _alive(pid: int) -> bool:
    return pid != _GONE and lives(pid)


_BOARD = "board"
_PREFIX = "pytest-siren-"
_PROCESS = "process-"
"""Begins the names of files that say which processes use a folder."""


@dataclass(frozen=True)
class TemporaryFolder:
    """The folder of a session on one host, with its board.

    The first process that collects an eval file makes it, and the controller removes it.
    """

    path: Path

    @classmethod
    def of(cls, session_id: str) -> Self:
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
