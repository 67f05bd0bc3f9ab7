"""The shared state of a session as small files, for processes on several hosts.

Each process has a file of its own, which it replaces whole and all others read; what is asked of
all is told there too, so that no two processes write to one file. Only the shared cells of keys are
in one file, which changes under a lock: a link that is created exclusively, as every network file
system can. Nothing is mapped, and no lock of the operating system is needed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_siren.sharing.lockfile import LockFile
from pytest_siren.sharing.peers import Peers, read_if_new, replace
from pytest_siren.sharing.state import KEY_CELLS, Gauge, host

_TEXT = 4096
"""Characters of a sentence."""
_PORTION_EACH, _PORTIONS = 0.015, (0.25, 3.0)
"""Seconds that the portions of all processes last, for each process, and the bounds of that."""

_CELLS, _LOCK = "cells.json", "lock"


class SharedFiles:
    """One process's view of the files in ``folder``. Raises ``OSError`` like any file."""

    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, folder: Path) -> None:
        """Join the session whose files are in ``folder``, which must be there."""
        self.folder = folder
        self._peers = Peers(folder)
        self._mine = self._peers.mine
        self._lock = LockFile(folder / _LOCK, self._peers.name)
        self._cells: dict[str, list[float]] = {}
        self._held: dict[str, Any] = {}
        """Name of a process to what it told of keys when it last held the lock."""
        self._before = ""
        """The cells as they were in the file."""
        self._version = 0, 0
        self._cells_read = 0.0
        self._holds = False

    @classmethod
    def open(cls, folder: Path) -> SharedFiles:
        """Join the session whose files are in ``folder``, which is made if it is new."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def close(self) -> None:
        """Leave: nothing is running here any more."""
        self._peers.leave()

    # This process's own gauges, and everybody's.

    def __getitem__(self, gauge: Gauge) -> float:
        return self._mine.gauges.get(gauge.name, 0.0)

    def __setitem__(self, gauge: Gauge, value: float) -> None:
        if self._mine.gauges.get(gauge.name) != value:
            self._mine.gauges[gauge.name] = value
            self._peers.changed()

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes; of present states, over those that are alive."""
        return self[gauge] + self._peers.totals().gauges.get(gauge.name, 0.0)

    def earliest(self, gauge: Gauge) -> float:
        """Return the least value but 0 among the processes that are alive; 0 without one."""
        found = self[gauge], self._peers.totals().earliest.get(gauge.name, 0.0)
        return min((one for one in found if one), default=0.0)

    # What is asked of all processes.

    def stop(self, reason: str) -> None:
        """Ask every process to stop; the first reason stands."""
        if self.stopped is None:
            self._mine.stopped = (time.time(), reason[:_TEXT])
            self._peers.write()

    @property
    def stopped(self) -> str | None:
        """Why every process shall stop; ``None`` while nobody asked for it."""
        return _first((self._mine.stopped, *self._peers.totals().stopped))

    def settle(self) -> None:
        """Tell every process that no further runs are needed; those in flight go on."""
        self._mine.settled = True
        self._peers.write()

    @property
    def settled(self) -> bool:
        """Whether no further runs are needed."""
        return self._mine.settled or self._peers.totals().settled

    def unpriced(self, reason: str) -> None:
        """Count an answer whose cost nobody knows; the first reason stands."""
        self[Gauge.UNPRICED] += 1
        if self._mine.unpriced is None:
            self._mine.unpriced = (time.time(), reason[:_TEXT])
            self._peers.write()

    @property
    def why_unpriced(self) -> str | None:
        """Why the cost of an answer is unknown; ``None`` while all are known."""
        return _first((self._mine.unpriced, *self._peers.totals().unpriced))

    # Processes that died.

    @property
    def lost(self) -> int:
        """How many processes have died so far."""
        return len(self._mine.lost) + self._peers.totals().lost

    def count_lost(self, pid: int) -> None:
        """Note that the process ``pid`` of this host died: nothing is running there any more."""
        self.count_lost_process(f"{host()}-{pid}")

    def count_lost_process(self, process: str) -> None:
        """Note that the process ``HOST-PID`` died: nothing is running there any more."""
        self._mine.lost.append(process)
        self._peers.write()

    def living(self, process: str) -> bool:
        """Whether the process ``HOST-PID`` lives, as far as one can tell from this host.

        One of another host has died when it has given no sign of life for some seconds.
        """
        return self._peers.living(process)

    # What belongs to a key, such as a model.

    def key(self, name: str) -> FileCells:
        """Return the cells of ``name``, the same for every process."""
        return FileCells(self, name)

    def stop_key(self, name: str, reason: str) -> None:
        """Ask every process to begin nothing more on the key ``name``; the first reason stands."""
        self._mine.key_stops.setdefault(name, (time.time(), reason[:_TEXT]))
        self._peers.write()

    def key_stopped(self, name: str) -> str | None:
        """Return why nothing more is begun on the key ``name``; ``None`` while something may be."""
        others = self._peers.totals().key_stops
        if name not in others and name not in self._mine.key_stops:
            return None
        return _first((self._mine.key_stops.get(name), *others.get(name, ())))

    def stopped_keys(self) -> list[str]:
        """Return the reasons for which keys are stopped."""
        names = dict.fromkeys((*self._mine.key_stops, *self._peers.totals().key_stops))
        found = (self.key_stopped(name) for name in names)
        return [reason for reason in found if reason is not None]

    # The cells of keys, for ``FileCells``.

    @property
    def portion(self) -> float:
        """Seconds for which the portions of all processes that are alive last."""
        shortest, longest = _PORTIONS
        return min(max(shortest, _PORTION_EACH * (1 + self._peers.totals().alive)), longest)

    def of_key(self, name: str) -> tuple[int, int]:
        """Return this process's requests in flight, and waiting, on a key."""
        return self._mine.keys.get(name, (0, 0))

    def set_of_key(self, name: str, in_flight: int, waiting: int) -> None:
        """Set them. Under the lock, others see them when it is given back."""
        if self._mine.keys.get(name) != (in_flight, waiting):
            self._mine.keys[name] = in_flight, waiting
            self._mine.keys_beat += 1
            self._peers.changed(later=self._holds)

    def totals(self, name: str) -> tuple[int, int]:
        """Return the requests of all living processes in flight, and waiting, on a key."""
        in_flight, waiting = self.of_key(name)
        others = self._peers.totals().keys.get(name, (0, 0))
        return in_flight + others[0], waiting + others[1]

    def cell(self, name: str, cell: int) -> float:
        """Return a shared cell of a key."""
        if not self._holds and time.monotonic() - self._cells_read >= self._peers.fresh:
            self._read_cells()
        return self._cells.get(name, _NOTHING)[cell]

    def set_cells(self, name: str, values: Mapping[int, float]) -> None:
        """Set shared cells of a key."""
        if not self._holds:
            with self.lock():
                self.set_cells(name, values)
            return
        cells = self._cells.setdefault(name, [0.0] * KEY_CELLS)
        for cell, value in values.items():
            cells[cell] = value

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other processes (not threads of this one) from changing shared cells.

        What others changed within it, and the requests they had in flight then, are seen within it.
        """
        self._lock.acquire()
        self._holds = True
        try:
            self._read_cells()
            yield
            self._write_cells()
        except BaseException:
            self._version = 0, 0  # What was changed in vain is to be read again.
            raise
        finally:
            self._holds = False
            self._lock.release()

    def _read_cells(self) -> None:
        self._cells_read = time.monotonic()
        self._version, data = read_if_new(self.folder / _CELLS, self._version)
        if data is not None:
            plain = json.loads(data)
            self._cells, self._held = plain["cells"], plain["held"]
            self._before = json.dumps(self._cells)
            self._peers.learn(self._held)

    def _write_cells(self) -> None:
        beat = self._mine.keys_beat
        told, _ = self._held.get(self._peers.name, (0, {}))
        if json.dumps(self._cells) != self._before or told != beat:
            self._held[self._peers.name] = beat, dict(self._mine.keys)
            data = json.dumps({"cells": self._cells, "held": self._held}).encode()
            replace(self.folder / _CELLS, data, self._peers.name)


_NOTHING = [0.0] * KEY_CELLS


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
        self.assign({cell: value})

    def assign(self, values: Mapping[int, float]) -> None:
        """Set some cells at once, where the new values do not depend on the old."""
        self._state.set_cells(self._name, values)

    @property
    def portion(self) -> float:
        """Seconds of a cap that all processes may take in advance, for the lock costs much."""
        return self._state.portion

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


def _first(said: Iterable[tuple[float, str] | None]) -> str | None:
    """Return the earliest of the sentences; ``None`` without one."""
    found = [one for one in said if one is not None]
    return str(min(found)[1]) if found else None
