"""What the processes of a cluster's session report, in files that the controller follows.

Each process has a file of its own and appends one line of JSON for each report.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pytest_siren.sharing.listing import current_names

VISIBLE = 0.5
"""Seconds after which other hosts can see a line on a network file system."""
LOOK = 0.05
"""Seconds between two looks at the files, at least."""
PATIENCE = 60.0
"""Seconds for which a line that cannot be read may still become one: a network file system may
show that a file has grown before it shows by what, but not for longer than it caches."""
_PER_FILE = 0.001
"""Seconds between two looks for each file that is followed."""
_SUFFIX = ".jsonl"


class ReportWriter:
    """Appends the reports of one process to the file ``path``. Raises ``OSError``.

    A line that was written outlives the process, whatever kills it. A thread hands what was written
    to the file server, which a network file system else does much later.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)
        self._whole = True
        """Whether the last line was written to its end."""
        self._written = threading.Event()
        self._closing = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._keep_visible, daemon=True)
        self._thread.start()

    def write(self, report: Mapping[str, Any]) -> None:
        """Append one report, JSON data. Raises ``TypeError`` for what is none."""
        if self._failure is not None:
            raise self._failure
        line = json.dumps(report, separators=(",", ":")).encode() + b"\n"
        # What was cut off is a line of its own, which the follower names.
        left = memoryview(line if self._whole else b"\n" + line)
        self._whole = False
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._whole = True
        self._written.set()

    def close(self) -> None:
        """End; what was written is with the file server."""
        self._closing.set()
        self._written.set()
        self._thread.join()
        os.close(self._descriptor)
        if self._failure is not None:
            raise self._failure

    def _keep_visible(self) -> None:
        try:
            while not self._closing.is_set():
                self._written.wait()
                self._written.clear()
                os.fdatasync(self._descriptor)
                self._closing.wait(VISIBLE)
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._failure = error


@dataclass(frozen=True)
class Reported:
    """A line of a process."""

    process: str
    """Name of the process: that of its file, without the suffix."""
    report: dict[str, Any] | None
    """JSON data; ``None`` for a line that cannot be read."""
    problem: str = ""
    """What is wrong with a line that cannot be read, and where it is."""


@dataclass
class _Followed:
    """A file, and how far it was read."""

    path: Path
    process: str
    offset: int = 0
    """Bytes of the lines that were read."""
    lines: int = 0
    unreadable_since: float | None = None
    """When the line at ``offset`` was first found to be unreadable; ``None`` if it was not."""


class ReportFollower:
    """Follows the files in ``folder``, from their beginning. Raises ``OSError``."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._files: dict[str, _Followed] = {}
        self._next_look = clock()

    def poll(self) -> Iterator[Reported]:
        """Yield what is new, in order for each process; nothing if it has just looked."""
        if self._clock() < self._next_look:
            return
        yield from self.look()

    def look(self) -> Iterator[Reported]:
        """Yield what is new, in order for each process."""
        for name in current_names(self._folder):
            if name.endswith(_SUFFIX) and name not in self._files:
                path = self._folder / name
                self._files[name] = _Followed(path, name.removesuffix(_SUFFIX))
        for followed in self._files.values():
            yield from self._news(followed)
        self._next_look = self._clock() + max(LOOK, _PER_FILE * len(self._files))

    def _news(self, followed: _Followed) -> Iterator[Reported]:
        # Opened anew, for that is when a network file system asks the server how long it is.
        with followed.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= followed.offset:
                return
            file.seek(followed.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                report, problem = _parsed(line)
                if report is None and not self._is_final(followed):
                    return
                followed.offset += len(line)
                followed.lines += 1
                followed.unreadable_since = None
                where = f"{followed.path}:{followed.lines}: {problem}" if problem else ""
                yield Reported(followed.process, report, where)

    def _is_final(self, followed: _Followed) -> bool:
        """Whether a line that cannot be read has had the time to become one."""
        now = self._clock()
        if followed.unreadable_since is None:
            followed.unreadable_since = now
        return now - followed.unreadable_since >= PATIENCE


def _parsed(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the report in ``line``, or what is wrong with it."""
    try:
        report = _decoded(line)
    except ValueError as error:
        return None, f"no JSON ({error})"
    if not isinstance(report, dict):
        return None, "no object"
    return report, ""


def _decoded(line: bytes) -> Any:
    """Return JSON data; keys that are equal are one object, for pytest keeps all reports."""
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        # It may be one of the things that only Python's decoder takes, such as NaN.
        return json.loads(line)
