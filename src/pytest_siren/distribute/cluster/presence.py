"""Which processes of a cluster's session have begun, have ended, and live.

A process leaves a note when it has collected, and another one when it has ended in order. That it
was killed, others find out: on its host at once, elsewhere when it gives no sign of life any more,
or when the controller, which asks the engine, notes that it is gone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_siren.sharing.listing import current_names
from pytest_siren.sharing.state import host, lives, started_at

_LOOK = 1.0
"""Seconds for which a listing of the folder is good enough."""
_BEGUN, _ENDED, _GONE, _PROBLEM = ".json", ".ended", ".gone", ".problem"


def process_name(element: int, process: int, restart: int = 0) -> str:
    """Return the name of a process of an element, which no other of the session has."""
    return f"e{element}.{process}" + (f"-r{restart}" if restart else "")


def element_of(name: str) -> int:
    """Return the number of the element that the process ``name`` belongs to."""
    return int(name.removeprefix("e").partition(".")[0])


def process_of(name: str) -> int:
    """Return the place of the process ``name`` among those of its element."""
    return int(name.partition(".")[2].partition("-")[0])


@dataclass(frozen=True)
class Origin:
    """Where a process runs."""

    host: str
    pid: int
    started: str | None = None
    """When it was started, as its host counts."""

    @classmethod
    def here(cls) -> Origin:
        """Return that of this process."""
        return cls(host(), os.getpid(), started_at(os.getpid()))


@dataclass(eq=False)
class Presence:
    """The notes in ``folder``. Its methods raise ``OSError``."""

    folder: Path
    living: Callable[[str], bool] = lambda process: True
    """Whether a process of another host, named ``HOST-PID``, has been heard of lately."""
    _origins: dict[str, Origin] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)
    _notes: set[str] = field(default_factory=set)
    _next_look: float = 0.0

    def begun(self, name: str) -> None:
        """Note that this process has collected, and goes by ``name``."""
        temporary = self.folder / f".{name}"
        temporary.write_text(json.dumps(vars(Origin.here())), encoding="utf-8")
        os.replace(temporary, self.folder / f"{name}{_BEGUN}")

    def ended(self, name: str) -> None:
        """Note that the process of that name has ended in order: nothing killed it."""
        self._note(f"{name}{_ENDED}")

    def gone(self, name: str) -> None:
        """Note that the process of that name is no more, for those who cannot know it."""
        self._note(f"{name}{_GONE}")

    def problem(self, name: str, text: str) -> None:
        """Note why the process of that name cannot execute anything."""
        temporary = self.folder / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.folder / f"{name}{_PROBLEM}")

    def problems(self) -> Mapping[str, str]:
        """Return what has been noted, by the name of the process."""
        return {
            name.removesuffix(_PROBLEM): (self.folder / name).read_text(encoding="utf-8")
            for name in current_names(self.folder)
            if name.endswith(_PROBLEM) and not name.startswith(".")
        }

    def names(self) -> list[str]:
        """Return the processes that have begun so far."""
        return [
            name.removesuffix(_BEGUN)
            for name in current_names(self.folder)
            if name.endswith(_BEGUN) and not name.startswith(".")
        ]

    def alive(self, name: str) -> bool:
        """Whether the process of that name, which has begun, may still do something."""
        if name in self._gone:
            return False
        if self._is_noted(name) or not self._lives(name):
            self._gone.add(name)
            return False
        return True

    def died(self, name: str) -> bool:
        """Whether the process of that name has ended without having come to its end."""
        if self.alive(name):
            return False
        return f"{name}{_ENDED}" not in self._notes and f"{name}{_ENDED}" not in self._list()

    def process(self, name: str) -> str | None:
        """Return the process of that name as ``HOST-PID``; ``None`` if it has not begun."""
        origin = self._origin(name)
        return None if origin is None else f"{origin.host}-{origin.pid}"

    def pids(self) -> frozenset[int]:
        """Return the ids of the processes of this host that live."""
        found = ((self._origin(name), name) for name in self.names())
        return frozenset(
            origin.pid
            for origin, name in found
            if origin is not None and origin.host == host() and self.alive(name)
        )

    def _note(self, file: str) -> None:
        (self.folder / file).touch()
        self._notes.add(file)

    def _is_noted(self, name: str) -> bool:
        """Whether somebody has noted that the process is no more, a second ago or earlier."""
        if time.monotonic() >= self._next_look:
            self._list()
        return not self._notes.isdisjoint((f"{name}{_ENDED}", f"{name}{_GONE}"))

    def _list(self) -> set[str]:
        self._notes.update(current_names(self.folder))
        self._next_look = time.monotonic() + _LOOK
        return self._notes

    def _lives(self, name: str) -> bool:
        origin = self._origin(name)
        if origin is None:
            # What another host has written may be seen a little later.
            return True
        if origin.host == host():
            same = origin.started in (None, started_at(origin.pid))
            return lives(origin.pid) and same
        return self.living(f"{origin.host}-{origin.pid}")

    def _origin(self, name: str) -> Origin | None:
        if name not in self._origins:
            with suppress(FileNotFoundError, ValueError):
                data = json.loads((self.folder / f"{name}{_BEGUN}").read_bytes())
                self._origins[name] = Origin(**data)
        return self._origins.get(name)
