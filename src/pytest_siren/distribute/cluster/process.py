"""The executor of a process of an element: it leases its runs, and writes what they came to."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.distribute.cluster import ASSIGNMENT
from pytest_siren.distribute.cluster.leases import Block, Leases
from pytest_siren.distribute.cluster.lines import ENDED, report_line, warning_line
from pytest_siren.distribute.cluster.presence import process_of
from pytest_siren.distribute.cluster.reports import ReportWriter
from pytest_siren.session.config.options import grace
from pytest_siren.session.config.processes import Part, Role

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.child import Assignment
    from pytest_siren.distribute.cluster.plan import SessionStore
    from pytest_siren.session.execution.run_loop import Line
    from pytest_siren.session.items.job import RunItem
    from pytest_siren.sharing.state import SharedState

IDLE = 60.0
"""Seconds that a process waits for runs of others that may die, once no block is free."""
_SPARE = 8
"""One run in so many of the window waits behind it, while blocks are large."""
_LOOK = 0.5
"""Seconds between two looks at which runs have been dropped."""


@dataclass(eq=False)
class LeaseFeed:
    """Runs of the blocks that this process has leased, a block at a time.

    A block is leased when there is room for its runs, so that no process keeps others from runs
    that it cannot begin. The runs of a block with which a process died are executed one by one: if
    one of them kills its process, it shall not take others along. The second time they go
    backwards, so that all but one that kills are done when the block is given up.
    """

    leases: Leases
    items: Sequence[RunItem]
    """Those of the group, in the order of the plan."""
    window: int
    dropped: DroppedRuns
    is_recorded: Callable[[RunItem], bool]
    closed: bool = field(default=False, init=False)
    _blocks: dict[int, Block] = field(default_factory=dict, init=False)
    """Of the runs that have not been reported, by the ``id`` of their items."""
    _left: Counter[int] = field(default_factory=Counter, init=False)
    """Number of a block to its runs that have not been reported."""
    _in_flight: int = field(default=0, init=False)
    """Runs that have been put into the line and have not been reported."""
    _spare: int = field(default=0, init=False)
    _idle_since: float | None = field(default=None, init=False)
    _one_by_one: deque[RunItem] = field(default_factory=deque, init=False)
    """Runs of which one may have killed its process."""

    def __post_init__(self) -> None:
        self._spare = self.window // _SPARE

    def listen(self, wake: Callable[[], None]) -> None:
        """Nothing comes in by itself."""

    def poll(self, line: Line, room: int) -> None:
        """Lease blocks while fewer runs wait than there is room for."""
        if self._one_by_one:
            if not self._in_flight:
                self._put(line, self._one_by_one.popleft())
            return
        while not self.closed and len(line) < room + self._spare:
            if (block := self.leases.take()) is None:
                self._spare = 0
                self._take_over(line)
                return
            # The last blocks are single runs: whoever is free first shall have them.
            self._spare = self.window // _SPARE if block.stop - block.start > 1 else 0
            for item in self._taken(block):
                self._put(line, item)

    def _take_over(self, line: Line) -> None:
        """Go on with a block of a process that has ended, once nothing else is in flight here."""
        if self._in_flight:
            return
        if (lease := self.leases.take_over()) is None:
            self.closed = self._is_over()
            return
        items = self._taken(lease.block)
        for item in items:
            # Who ended with it may have recorded it, and may even have reported it.
            item.reported = True
        if lease.deaths:
            self._one_by_one.extend(items if lease.deaths % 2 else reversed(items))
            items = [self._one_by_one.popleft()] if items else []
        for item in items:
            self._put(line, item)

    def _put(self, line: Line, item: RunItem) -> None:
        self._in_flight += 1
        line.put(item)

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None, duration: float) -> None:
        """Take ``item`` through pytest's protocol."""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        self._ended(item)

    def skip(self, item: pytest.Item) -> None:
        """Count ``item`` as done, for nobody needs it any more."""
        self._ended(item)

    def _taken(self, block: Block) -> list[RunItem]:
        self._idle_since = None
        gone = self.dropped.now()
        taken = [
            item
            for item in self.items[block.start : block.stop]
            if item.nodeid not in gone or self.is_recorded(item)
        ]
        if not taken:
            self.leases.done(block)
        self._blocks.update((id(item), block) for item in taken)
        self._left[block.number] = len(taken)
        self._left = +self._left
        return taken

    def _ended(self, item: pytest.Item) -> None:
        self._in_flight -= 1
        block = self._blocks.pop(id(item))
        self._left[block.number] -= 1
        if not self._left[block.number]:
            del self._left[block.number]
            self.leases.done(block)

    def _is_over(self) -> bool:
        """Whether no run of anybody can fall to this process, or none has for long."""
        if not self.leases.outstanding():
            return True
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        return now - self._idle_since > IDLE


@dataclass(eq=False)
class DroppedRuns:
    """The runs that the controller does not need any more."""

    store: SessionStore
    _nodeids: set[str] = field(default_factory=set)
    _read: int = 0
    _looked: float = float("-inf")

    def now(self) -> set[str]:
        """Return the node ids of those that were dropped half a second ago or earlier."""
        if (now := time.monotonic()) - self._looked >= _LOOK:
            self._looked = now
            nodeids, self._read = self.store.dropped(self._read)
            self._nodeids.update(nodeids)
        return self._nodeids


@dataclass(eq=False)
class Reporter:
    """Writes what pytest reports in this process for the controller."""

    config: pytest.Config
    writer: ReportWriter

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a report, which outlives this process from now on."""
        self.writer.write(report_line(self.config, report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str
    ) -> None:
        """Write a warning of a run; of those before, the controller has its own."""
        if when == "runtest":
            self.writer.write(warning_line(warning_message, nodeid))

    def pytest_unconfigure(self) -> None:
        """Say that this was all, and close the file."""
        self.writer.write(ENDED)
        self.writer.close()


@dataclass(eq=False)
class ElementProcess:
    """The executor of a process of an element."""

    config: pytest.Config
    repeats: bool = False
    detached: bool = False
    total: int = 0
    """The controller knows."""
    deaths: int = 0
    unavailable: tuple[str, ...] = ()
    state: SharedState | None = None
    """The state that ``join`` returned."""

    @cached_property
    def assignment(self) -> Assignment:
        """What this process is to execute."""
        assignment: Assignment = self.config.workerinput[ASSIGNMENT]  # type: ignore[attr-defined]
        return assignment

    @cached_property
    def role(self) -> Role:
        """What this process is."""
        plan = self.assignment.plan
        return Role(
            Part.WORKER,
            self.assignment.name,
            # The controller has made the folders of all jobs.
            first=False,
            processes=plan.processes,
            session_process=os.getpid(),
        )

    @cached_property
    def launcher(self) -> str:
        """Word for the executor in the files of sweeps, which the controller writes."""
        return "cluster"

    @property
    def decided(self) -> Mapping[str, Any] | None:
        """What the controller decided on the session."""
        return self.assignment.plan.session

    @property
    def begins_early(self) -> bool:
        """Whether the session resumes another one."""
        return self.assignment.plan.session["resume"] is not None

    def attach(self, jobs: Mapping[str, str]) -> frozenset[int]:
        """Follow nobody: the controller does."""
        return frozenset()

    def join(self) -> SharedState:
        """Return the state of the session, on files that all hosts share."""
        from pytest_siren.sharing.files import SharedFiles

        self.state = state = SharedFiles.open(self.assignment.store.state)
        self.assignment.presence.living = state.living
        return state

    def leave(self) -> None:
        """Do nothing: others need it."""

    def collected(self, session: pytest.Session) -> None:
        """Let the session have exactly the runs of the plan, in the plan's order."""
        found = self.assignment.items
        session.items[:] = [found[nodeid] for nodeid in self.assignment.group.nodeids]

    def execute(self, session: pytest.Session) -> bool:
        """Execute runs until none is left that nobody has, and none can be taken from the dead."""
        from pytest_siren.session.execution.executor import evaluations_of
        from pytest_siren.session.execution.run_loop import (
            CANNOT_BEGIN,
            Drive,
            spending_allowed,
            window_size,
        )
        from pytest_siren.session.items.job import RunItem

        evaluations = evaluations_of(self.config)
        assignment = self.assignment
        items = [item for item in session.items if isinstance(item, RunItem)]
        # Before it leaves a mark in any job: who attaches knows by this that it may.
        assignment.presence.begun(assignment.name)
        try:
            evaluations.recorder.begin(items)
            evaluations.warm_up(items)
        except CANNOT_BEGIN as error:
            assignment.presence.problem(assignment.name, str(error))
            raise pytest.UsageError(str(error)) from None
        writer = ReportWriter(assignment.store.reports / f"{assignment.name}.jsonl")
        self.config.pluginmanager.register(Reporter(self.config, writer), "siren-reporter")
        drive = Drive(
            session,
            evaluations,
            LeaseFeed(
                self._leases(),
                items,
                window_size(session.items),
                DroppedRuns(assignment.store),
                evaluations.is_recorded,
            ),
            window_size(session.items),
            grace(self.config),
            may_start=spending_allowed(self.config, evaluations),
        )
        drive.run()
        if session.shouldstop:
            # Somebody's hook wants the session to end, and not only this process.
            evaluations.board.stop(str(session.shouldstop))
        if drive.stopped is not None and not session.shouldfail:
            session.shouldstop = drive.stopped
        return True

    def _leases(self) -> Leases:
        assignment, group = self.assignment, self.assignment.group
        return Leases(
            assignment.store.leases(assignment.place.group),
            group.blocks(),
            assignment.name,
            assignment.presence.alive,
            offset=assignment.place.index * group.processes + process_of(assignment.name),
            stride=group.elements * group.processes,
            died=assignment.presence.died,
        )

    def finish(self, jobs: Sequence[Path]) -> None:
        """Leave the indexes to the controller, and to whoever reads them if it has gone."""

    def planned(self) -> Sequence[Mapping[str, Any]] | None:
        """Return ``None``: this process has collected."""
        return None

    def settle(self) -> None:
        """Let no further runs begin; those in flight go on."""
        if self.state is not None:
            self.state.settle()

    def drop(self, nodeids: Iterable[str]) -> None:
        """Leave it to the controller."""
