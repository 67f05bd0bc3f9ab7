"""What the processes of a cluster's session are to do, and the folder that they share."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.distribute.cluster.leases import Block, blocks
from pytest_siren.jobs.writing.write import folder_error

SESSIONS = ".sessions"
"""Folder in a folder of jobs; readers of jobs pass over what begins with a dot."""
_FORMAT = 1
_PLAN = "plan.json.gz"
_DROPPED = "dropped.jsonl"


class PlanError(Exception):
    """A session's plan cannot be used."""


@dataclass(frozen=True)
class Group:
    """Runs whose jobs have the same settings: one array of elements executes them."""

    nodeids: Sequence[str]
    """In the order in which they begin."""
    jobs: Mapping[str, str]
    """Identity of a job's configuration to the path of its folder."""
    window: int
    """Most runs that one process keeps in flight."""
    elements: int
    """Jobs of the array."""
    processes: int = 1
    """Processes of one element."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the engine is asked for."""

    def blocks(self) -> list[Block]:
        """Return the blocks that processes lease; the same in each of them."""
        return blocks(len(self.nodeids), self.elements * self.processes, self.window)


@dataclass(frozen=True)
class Place:
    """Which part of a plan an element has."""

    group: int
    index: int
    """Its place among the elements of the group's array."""


@dataclass(frozen=True)
class Plan:
    """All that a process needs to execute a part of a session. Written once, before submission."""

    session: Mapping[str, Any]
    """What the controller decided: ``for_process`` of ``session/lifecycle/begin.py``."""
    args: Sequence[str]
    """Command line of pytest."""
    cwd: str
    """Folder in which pytest was started."""
    path: Sequence[str]
    """``sys.path`` of the controller."""
    groups: Sequence[Group]
    worker_input: Mapping[str, Any] = field(default_factory=dict)
    """What other plugins hand to workers."""

    @property
    def elements(self) -> int:
        """Elements of the arrays of all groups."""
        return sum(group.elements for group in self.groups)

    @property
    def processes(self) -> int:
        """Processes of all elements."""
        return sum(group.elements * group.processes for group in self.groups)

    def numbers(self, group: int, round_: int = 0) -> range:
        """Return the numbers of the elements of an array.

        ``round_`` counts the arrays that have been submitted for the group before.
        """
        before = sum(one.elements for one in self.groups[:group])
        start = round_ * self.elements + before
        return range(start, start + self.groups[group].elements)

    def place(self, element: int) -> Place:
        """Return the part of the element of that number."""
        index = element % self.elements
        for number, group in enumerate(self.groups):
            if index < group.elements:
                return Place(number, index)
            index -= group.elements
        raise PlanError(f"the plan has no element {element}")

    def nodeids(self) -> Iterator[str]:
        """Yield the node ids of all runs."""
        for group in self.groups:
            yield from group.nodeids

    def jobs(self) -> dict[str, str]:
        """Return the identities of all jobs, and the paths of their folders."""
        return {identity: path for group in self.groups for identity, path in group.jobs.items()}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan from JSON data. Raises ``PlanError`` for one of another version."""
        if data["format"] != _FORMAT:
            raise PlanError(f"its format is {data['format']}, and this version reads {_FORMAT}")
        groups = [Group(**group) for group in data["groups"]]
        known = {name: value for name, value in data.items() if name != "format"}
        return cls(**{**known, "groups": groups})


@dataclass(frozen=True)
class Submitted:
    """An array that an engine has accepted."""

    engine: str
    group: int
    ids: Mapping[int, str]
    """Number of an element to the engine's id of it."""


@dataclass(frozen=True)
class SessionStore:
    """The folder that all processes of one session share. Its methods raise ``OSError``."""

    folder: Path

    @classmethod
    def of(cls, jobs_dir: Path, session_id: str) -> SessionStore:
        """Return the folder of a session, which may not exist yet."""
        return cls(jobs_dir / SESSIONS / session_id)

    @property
    def state(self) -> Path:
        """Folder of the state that all processes share."""
        return self.folder / "state"

    @property
    def reports(self) -> Path:
        """Folder of the reports, a file for each process."""
        return self.folder / "reports"

    @property
    def presence(self) -> Path:
        """Folder that tells which processes have begun and ended."""
        return self.folder / "processes"

    @property
    def engine(self) -> Path:
        """Folder of the engine's own files."""
        return self.folder / "engine"

    def leases(self, group: int) -> Path:
        """Return the folder of the leases of a group."""
        return self.folder / "leases" / str(group)

    def make(self) -> None:
        """Make the folders, for this user alone: command lines may hold secrets.

        Raises ``FolderError``, which names the folder of the jobs.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            for path in (self.state, self.reports, self.presence, self.engine):
                path.mkdir(exist_ok=True)
        except OSError as error:
            raise folder_error(self.folder.parent.parent, error) from error

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, before any element is submitted."""
        data = json.dumps({"format": _FORMAT, **asdict(plan)}).encode()
        _replace(self.folder / _PLAN, gzip.compress(data, compresslevel=1))

    def plan(self) -> Plan:
        """Return the plan. Raises ``PlanError`` where there is none that can be used."""
        path = self.folder / _PLAN
        try:
            return Plan.from_plain(json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, KeyError, TypeError, PlanError) as error:
            raise PlanError(f"the plan {path} cannot be read: {error}") from None

    def add_submitted(self, submitted: Submitted) -> None:
        """Note an array that has been accepted."""
        number = sum(1 for _ in self.folder.glob("submitted-*.json"))
        _replace(
            self.folder / f"submitted-{number}.json",
            json.dumps({**asdict(submitted), "ids": list(submitted.ids.items())}).encode(),
        )

    def submitted(self) -> list[Submitted]:
        """Return the arrays that have been accepted so far, in their order."""
        paths = sorted(
            self.folder.glob("submitted-*.json"), key=lambda path: (len(path.name), path)
        )
        found = [json.loads(path.read_bytes()) for path in paths]
        return [Submitted(one["engine"], one["group"], dict(one["ids"])) for one in found]

    def drop(self, nodeids: Iterable[str]) -> None:
        """Note runs that need not begin any more. Only the controller does so."""
        lines = "".join(f"{json.dumps(nodeid)}\n" for nodeid in nodeids)
        with open(self.folder / _DROPPED, "a", encoding="utf-8") as file:
            file.write(lines)

    def dropped(self, start: int = 0) -> tuple[list[str], int]:
        """Return the runs that were dropped in whole lines from byte ``start`` on, and the end."""
        try:
            with open(self.folder / _DROPPED, "rb") as file:
                file.seek(start)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return [], start
        lines = whole.splitlines()
        return [json.loads(line) for line in lines], start + len(whole) + bool(lines)

    def remove_but_logs(self) -> None:
        """Remove all but the engine's folder, with the logs of elements that failed."""
        for path in self.folder.iterdir():
            if path.is_dir() and path != self.engine:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, and that of all sessions if there is no other."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()


def stores(jobs_dir: Path) -> list[SessionStore]:
    """Return the folders of all sessions that are or were distributed from ``jobs_dir``."""
    with suppress(OSError):
        return [SessionStore(path) for path in sorted((jobs_dir / SESSIONS).iterdir())]
    return []


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        temporary.chmod(0o600)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
