"""Follows the processes of a session on a cluster, and reports in this process what they report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.distribute.cluster.engines.base import (
    ElementState,
    ElementStatus,
    EngineError,
)
from pytest_siren.distribute.cluster.leases import Leases
from pytest_siren.distribute.cluster.lines import has_ended, report_of, warning_of
from pytest_siren.distribute.cluster.plan import Plan, SessionStore, Submitted
from pytest_siren.distribute.cluster.presence import Presence, element_of
from pytest_siren.distribute.cluster.reports import ReportFollower
from pytest_siren.evaluation.isolation import INTERRUPTED, Interrupts, UserInterrupt
from pytest_siren.text.words import counted

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.engines.base import Engine
    from pytest_siren.session.reporting.progress.plugin import ProgressReporting
    from pytest_siren.sharing.files import SharedFiles

_POLL = 0.1
"""Seconds between two looks at the reports."""
_STATUSES = 1.0
"""Seconds between two questions to the engine, at least."""
_ENDS = 0.25
"""The same, once all processes have ended, and elements are about to."""
_LATE = 5.0
"""Seconds that the last reports may take to be seen here."""
_PATIENCE = 20.0
"""Seconds, beyond the grace, that processes have to end when they are asked to."""
_CANCELLED = 10.0
"""Seconds that the engine has to end what it was asked to cancel."""
_LAST = "teardown"
"""Phase of the last report of an item."""


@dataclass(eq=False)
class Elements:
    """The elements of a session that have been submitted, as their engine knows them."""

    engine: Engine
    presence: Presence
    state: SharedFiles
    """What the processes share."""
    say: Callable[[str], None]
    """Shows a line to the user."""
    ids: dict[int, str] = field(default_factory=dict)
    """Number of an element to the engine's id of it."""
    failed: int = 0
    unwanted: int = 0
    """Those that failed because somebody else cancelled them."""
    _broken: int = 0
    _statuses: dict[int, ElementStatus] = field(default_factory=dict)
    _cancelled: set[int] = field(default_factory=set)
    _looked: float = float("-inf")
    _shown: str = ""

    @property
    def broken(self) -> bool:
        """Whether the environment of an element is broken, so that another one would fail too."""
        return self._broken > 0

    @property
    def deaths(self) -> int:
        """Elements that failed while they executed runs."""
        return self.failed - self._broken

    def add(self, submitted: Submitted) -> None:
        """Follow the elements of an array too."""
        self.ids.update(submitted.ids)
        self._looked = float("-inf")

    @property
    def title(self) -> str:
        """What names the arrays: the engine, and its own id where the ids of elements tell it."""
        arrays = list(dict.fromkeys(one.partition("_")[0] for one in self.ids.values()))
        others = f" and {len(arrays) - 1:,} more" if len(arrays) > 1 else ""
        return f"{self.engine.name} {arrays[0]}{others}"

    def look(self, *, every: float = _STATUSES, counts: bool = True, quiet: bool = False) -> None:
        """Ask the engine, unless it was asked ``every`` seconds ago, and show what has changed.

        Without ``counts`` only failures are shown.
        """
        if time.monotonic() < self._looked + every:
            return
        left = {number: one for number, one in self.ids.items() if not self._has_ended(number)}
        if left:
            found = self.engine.statuses(list(left.values()))
            for number, one in left.items():
                self._note(number, found[one], quiet=quiet)
            if counts and not quiet:
                self._show()
        self._looked = time.monotonic()

    def in_state(self, *states: ElementState) -> list[int]:
        """Return the numbers of the elements in one of ``states``, as of the last look."""
        return [number for number, one in self._statuses.items() if one.state in states]

    @property
    def all_ended(self) -> bool:
        """Whether all elements have ended, as of the last look."""
        return all(self._has_ended(number) for number in self.ids)

    def cancel(self, numbers: Collection[int]) -> None:
        """End these elements."""
        left = [number for number in numbers if not self._has_ended(number)]
        if not left:
            return
        self._cancelled.update(left)
        try:
            self.engine.cancel([self.ids[number] for number in left])
        except EngineError as error:
            self.say(f"{counted(len(left), 'element')} could not be cancelled: {error}")

    def _has_ended(self, number: int) -> bool:
        known = self._statuses.get(number)
        return known is not None and known.state is ElementState.ENDED

    def _note(self, number: int, status: ElementStatus, *, quiet: bool) -> None:
        self._statuses[number] = status
        if status.state is not ElementState.ENDED:
            return
        for name in self.presence.names():
            if element_of(name) == number and self.presence.alive(name):
                self._note_gone(name)
        if status.failed and number not in self._cancelled:
            self.failed += 1
            self._broken += status.broken
            self.unwanted += status.cancelled
            if not quiet:
                self._say_failed(number, status)

    def _note_gone(self, name: str) -> None:
        """Let others take over at once what the process held, also from a host that is gone."""
        self.presence.gone(name)
        if (process := self.presence.process(name)) is not None:
            self.state.count_lost_process(process)

    def _say_failed(self, number: int, status: ElementStatus) -> None:
        if status.broken and self._broken > 1:
            # As many as there are would fail in the same way, and say so at length.
            return
        problems = self.presence.problems()
        own = [text for name, text in problems.items() if element_of(name) == number]
        reason = own[0] if own else status.reason or "it left no result"
        # A reason of several lines ends with what is in the log, and names it.
        log = f"; its log: {status.log}" if status.log and "\n" not in reason else ""
        self.say(f"{self.engine.name} {self.ids[number]} failed: {reason}{log}")

    def _show(self) -> None:
        """Show how many elements are in which state, if that has changed."""
        counts = Counter(_word(one) for one in self._statuses.values())
        text = ", ".join(f"{count:,} {word}" for word, count in counts.items())
        if text != self._shown:
            self._shown = text
            self.say(f"{self.title}: {text}")


def _word(status: ElementStatus) -> str:
    if status.state is ElementState.ENDED:
        return "failed" if status.failed else "ended"
    word = status.state.name.lower()
    return f"{word} ({status.reason})" if status.reason else word


@dataclass(eq=False)
class Follower:
    """Reports the runs of one session's plan, in the session of this process."""

    session: pytest.Session
    store: SessionStore
    plan: Plan
    elements: Elements
    items: Mapping[str, pytest.Item]
    """Those that are to be reported, by node id."""
    grace: float
    """Seconds that runs in flight have to end by themselves when the session is stopped."""
    own: bool = True
    """Whether this process submitted the session; else it attaches to one, and may go on alone."""
    stopped: str | None = None
    """Why no more is done; ``None`` when everything was."""
    reported: set[str] = field(default_factory=set)
    """Node ids."""
    _undone: set[str] = field(init=False)
    """Node ids of the runs that are to be reported still."""
    _waiting: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """Reports of items, by process and node id, until there is the last of each item."""
    _closed: set[str] = field(default_factory=set)
    """Processes that have reported all that they will."""
    _over_since: float | None = None
    _driving: bool = False

    def __post_init__(self) -> None:
        self._config = self.session.config
        self._undone = {*self.items}
        self._reports = ReportFollower(self.store.reports)
        presence = self.elements.presence
        self._leases = [
            Leases(
                self.store.leases(number),
                group.blocks(),
                "controller",
                presence.alive,
                died=presence.died,
            )
            for number, group in enumerate(self.plan.groups)
        ]

    def follow(self) -> None:
        """Report until all runs are done, nobody is left to do them, or the session is stopped."""
        self._over_since = None
        with Interrupts(self._interrupt):
            try:
                while not self._is_over() and not self._is_stopped():
                    self._replay()
                    self._drive()
                    self.elements.look()
                    self._progress.tick()
                    time.sleep(_POLL)
                self._wind_down()
            except UserInterrupt:
                self.elements.cancel(self.elements.ids)
                raise

    def left(self, group: int) -> list[str]:
        """Return the runs of a group that are neither reported nor needless."""
        if self.elements.state.settled:
            return []
        return [one for one in self.plan.groups[group].nodeids if one in self._undone]

    def executable(self, group: int) -> int:
        """Return how many runs of a group another array could execute."""
        return sum(block.stop - block.start for block in self._leases[group].outstanding())

    def lost(self) -> list[str]:
        """Return the runs that are not tried any more, for too many processes died with them."""
        return [
            nodeid
            for group, leases in zip(self.plan.groups, self._leases, strict=True)
            for block in leases.lost()
            for nodeid in group.nodeids[block.start : block.stop]
            if nodeid in self._undone
        ]

    def unreported(self) -> bool:
        """Whether there are runs that nobody has reported."""
        return len(self.reported) < len(self.items)

    def drop(self, nodeids: Collection[str]) -> None:
        """Let no process begin these runs any more."""
        if new := [one for one in nodeids if one in self._undone]:
            self._undone.difference_update(new)
            self.store.drop(new)

    # How it follows.

    @cached_property
    def _progress(self) -> ProgressReporting:
        progress: Any = self._config.pluginmanager.get_plugin("siren-progress")
        return progress  # type: ignore[no-any-return]

    def _interrupt(self) -> None:
        self.stopped = INTERRUPTED
        if self._driving:
            # Whoever executes the elements here will not return before they have ended.
            self.elements.state.stop(INTERRUPTED)

    def _is_stopped(self) -> bool:
        """Whether Ctrl-C, pytest or a process stops the session; see ``stopped``."""
        found = self.session.shouldfail or self.session.shouldstop
        if self.stopped is None and found:
            self.stopped = str(found)
        if self.stopped is None and self.own:
            self.stopped = self.elements.state.stopped
        return self.stopped is not None

    def _drive(self) -> None:
        self._driving = True
        try:
            self.elements.engine.drive()
        finally:
            self._driving = False

    def _is_over(self) -> bool:
        """Whether nothing more is to be expected of anybody."""
        if not self._undone:
            return True
        if not (self._nothing_left() or self.elements.all_ended):
            self._over_since = None
            return False
        now = time.monotonic()
        self._over_since = self._over_since or now
        return self._all_closed() or now - self._over_since > _LATE

    def _nothing_left(self) -> bool:
        return not any(leases.outstanding() for leases in self._leases)

    def _all_closed(self) -> bool:
        """Whether every process that has begun has said that it reports nothing more."""
        return self._closed.issuperset(self.elements.presence.names())

    def _replay(self) -> None:
        """Report what has come in, unless pytest takes no more."""
        for reported in self._reports.poll():
            if reported.report is None:
                warning = pytest.PytestWarning(reported.problem)
                self._config.issue_config_time_warning(warning, stacklevel=2)
            else:
                self._receive(reported.process, reported.report)
            if self.session.shouldfail or self.session.shouldstop:
                return

    def _receive(self, process: str, line: Mapping[str, Any]) -> None:
        if (warning := warning_of(line)) is not None:
            message, nodeid = warning
            self._config.hook.pytest_warning_recorded.call_historic(
                kwargs={
                    "warning_message": message,
                    "when": "runtest",
                    "nodeid": nodeid,
                    "location": None,
                }
            )
        elif has_ended(line):
            self._closed.add(process)
        elif (report := report_of(self._config, line)) is not None:
            key = (process, report.nodeid)
            self._waiting.setdefault(key, []).append(report)
            if report.when == _LAST:
                self._report(report.nodeid, self._waiting.pop(key))

    def _report(self, nodeid: str, reports: Sequence[pytest.TestReport]) -> None:
        """Tell pytest of an item, once: one that was taken over may be reported twice."""
        if nodeid in self.reported or nodeid not in self.items:
            return
        self.reported.add(nodeid)
        self._undone.discard(nodeid)
        hook, location = self._config.hook, self.items[nodeid].location
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)

    # How it ends.

    def _wind_down(self) -> None:
        """Let all processes end, and report what they still record."""
        if self.stopped is not None:
            self.elements.state.stop(self.stopped)
        elif self._goes_on():
            return
        self._cancel_idle()
        elements = self.elements
        self._await_ends(_PATIENCE + (self.grace if self.stopped is not None else 0.0))
        elements.cancel(elements.ids)
        self._await_ends(_CANCELLED)

    def _goes_on(self) -> bool:
        """Whether runs are left that another array, or this process, may execute."""
        return bool(self._undone) and not self._nothing_left()

    def _cancel_idle(self) -> None:
        """End the elements of which no process has begun: nothing is left for them."""
        at_work = {element_of(name) for name in self.elements.presence.names()}
        self.elements.cancel(self.elements.ids.keys() - at_work)

    def _await_ends(self, seconds: float) -> None:
        """Wait until all elements have ended, at most so long, and report what comes in."""
        deadline = time.monotonic() + seconds
        presence = self.elements.presence
        while not self.elements.all_ended and time.monotonic() < deadline:
            self._replay_last()
            self._drive()
            at_work = any(map(presence.alive, presence.names()))
            self.elements.look(every=_STATUSES if at_work else _ENDS, counts=False)
            time.sleep(_POLL)
        self._replay_last()

    def _replay_last(self) -> None:
        if not (self.session.shouldfail or self.session.shouldstop):
            self._replay()
