"""Takes a session's items through: runs side by side, other tests one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_siren.session.capture import Capture
from pytest_siren.session.garbage import set_aside
from pytest_siren.session.interrupts import INTERRUPTED, Interrupts
from pytest_siren.session.items import RunItem
from pytest_siren.session.line import Line
from pytest_siren.session.runner import Ended, Evaluations
from pytest_siren.session.state import EARLY
from pytest_siren.session.streams import RunStreams
from pytest_siren.session.window import Window

if TYPE_CHECKING:
    from pytest_siren.jobs.records import Result
    from pytest_siren.metrics.deciding import Deciding, Scored

_TICK = 0.25
"""Seconds between two looks at what other processes say."""
_CANCELLING = 10.0
"""Seconds that cancelled runs have to end."""


class Feed(Protocol):
    """Where items come from, and how pytest is told of them."""

    closed: bool
    """Whether no further items will come."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, when there is something to ``poll``."""
        ...

    def poll(self, line: Line) -> None:
        """Put the items that have come in meanwhile into ``line``."""
        ...

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None, duration: float) -> None:
        """Take ``item`` through pytest's protocol. ``duration`` is that of its run in seconds."""
        ...

    def skip(self, item: pytest.Item) -> None:
        """Leave ``item`` out, for nobody needs it any more."""
        ...


@dataclass
class Drive:
    """One process's way through its items."""

    session: pytest.Session
    evaluations: Evaluations
    feed: Feed
    size: int
    """Most runs in flight."""
    grace: float
    """Seconds that runs in flight have to end by themselves when the session is stopped."""
    may_start: Callable[[], str | None] = lambda: None
    """Tells why no further run may start; ``None`` while they may."""
    tick: Callable[[], None] = lambda: None
    """Called a few times a second, in the main thread."""
    deciding: Deciding | None = None
    """Knows which tasks need no further runs, as far as this process has executed them."""
    line: Line = field(default_factory=Line)
    stopped: str | None = None
    """Why no more is done; ``None`` when everything was."""
    _full: str | None = None
    """Why no further runs are started, while those in flight end as ever."""

    def __post_init__(self) -> None:
        config = self.session.config
        self.line.in_order = bool(config.getoption("siren_gate_stop"))
        if early := config.stash.get(EARLY, ({}, []))[0]:
            from pytest_siren.metrics.deciding import asking

            self.deciding = asking(early)
        loop = self.evaluations.loop(threads=max(32, self.size + 4))
        self.evaluations.govern(self.size)
        board = self.evaluations.board
        self._window = Window(loop, self.evaluations.run, self.size, board, self.evaluations.lull)
        self._window.refill = self._refill
        self._capture = Capture(self.session.config)
        self._streams = RunStreams(self.session.config)
        self._interrupts = Interrupts(self._interrupt)
        self._far: dict[pytest.Collector, pytest.Item] = {}
        self._mixed = any(not isinstance(item, RunItem) for item in self.session.items)

    def run(self) -> None:
        """Take all items through, or until something stops it: see ``stopped``."""
        self.feed.listen(self._window.wake)
        plugins = self.session.config.pluginmanager
        plugins.register(self._capture, "siren-capture")
        plugins.register(self._streams, "siren-streams")
        diverted = self._streams.diverted(lambda: self.evaluations.hung)
        with self._interrupts, self._capture.session(), diverted, set_aside():
            try:
                while self._advance():
                    pass
                self._wind_down()
            finally:
                self._abandon()
        if self.stopped is None:
            # What could be executed has been.
            unavailable = self.evaluations.board.stopped_keys()
            self.stopped = self._full or "; ".join(unavailable) or None
            self.evaluations.unavailable_named = self._full is None

    def _advance(self) -> bool:
        """Do the next thing; return whether there may be more."""
        self.feed.poll(self.line)
        self.tick()
        self.stopped = self.stopped or self._must_stop()
        if self.stopped is not None:
            return False
        if (ended := self._window.take()) is not None:
            # Before the next one starts: it may be what -x stops at.
            self._report(*ended)
            self._step(0)
            return True
        self._fill()
        if self._window:
            self._step(_TICK)
        elif not self._test():
            if (self.feed.closed and not len(self.line)) or self._full:
                return False
            self._step(_TICK)
        return True

    def _must_stop(self) -> str | None:
        session = self.session
        return session.shouldfail or session.shouldstop or self.evaluations.board.stopped or None  # type: ignore[return-value]

    def _fill(self) -> None:
        while (
            self.stopped is None and self._full is None and len(self.line) and not self._window.full
        ):
            if self.evaluations.board.stopped is not None:
                return
            self._full = self.may_start()
            if self._full is not None:
                return
            item = self.line.next_run(self._window.room)
            if item is None:
                return
            if self._starts(item):
                self._window.start(item)
            else:
                self.feed.skip(item)

    def _starts(self, item: RunItem) -> bool:
        """Whether ``item`` has to be executed, or reported from its record.

        A run with a record always is, or a resumed session would show fewer than the one before.
        """
        undecided = self.deciding is None or self.deciding.needs(*item.run_key)
        if undecided and not self.evaluations.board.settled:
            return not self.evaluations.leaves_out(item)
        return self.evaluations.is_recorded(item)

    def _refill(self, item: RunItem, result: Result) -> None:
        """Start others in the place of a run whose record is still on its way to the disk."""
        self._decide(item, result)
        self._fill()

    def _decide(self, item: RunItem, came_to: Scored) -> None:
        if self.deciding is not None:
            identity, task, _ = item.run_key
            self.deciding.add(identity, task, came_to)

    def _test(self) -> bool:
        """Execute the next item if it is no run; tell whether there was one."""
        if len(self.line) < 2 and not self.feed.closed:
            # Its fixtures are torn down by what comes next, which is not known yet.
            return False
        test = self.line.next_test()
        if test is None:
            return False
        # The event loop may stand still for long.
        self.evaluations.recorder.hand_over()
        self._interrupts.__exit__()
        try:
            self.feed.protocol(test, self._after(test), 0.0)
        finally:
            self._interrupts.__enter__()
        return True

    def _report(self, item: RunItem, ended: Ended) -> None:
        if ended.unavailable is not None:
            self.evaluations.board.stop(ended.unavailable)
            return
        if ended.left_out:
            self.feed.skip(item)
            return
        if ended.cancelled and self.stopped is not None:
            return
        self.evaluations.keep(item, ended)
        if ended.report is not None:
            self._decide(item, ended.report)
        duration = ended.report.duration if ended.report else 0.0
        self.feed.protocol(item, self._after(item), duration)

    def _after(self, item: pytest.Item) -> pytest.Item | None:
        """Return an item that pytest may take for the next, so that it keeps what tests share."""
        if not self._mixed:
            return None
        first = self.line.first()
        if first is None and self.feed.closed and not self._window:
            return None
        if not (first is None or isinstance(first, RunItem) or self._window):
            return first
        # Which run ends next, and whether it will be needed at all, nobody knows.
        return self._farthest(item)

    def _farthest(self, item: pytest.Item) -> pytest.Item:
        """Return the item that shares least with ``item``: all others share that too."""
        assert item.parent is not None
        found = self._far.get(item.parent)
        if found is None:
            chain = item.parent.listchain()
            by_parent = {id(other.parent): other for other in self.session.items}
            found = min(by_parent.values(), key=lambda other: _shared(chain, other))
            self._far[item.parent] = found
        return found

    def _step(self, seconds: float) -> None:
        self._capture.step(self._window.step, seconds)

    def _interrupt(self) -> None:
        self.stopped = INTERRUPTED
        self._window.wake()

    def _wind_down(self) -> None:
        """Let what is in flight end, cancel the rest, and report what ended unless pytest is full.

        After ``-x``, ``--maxfail`` and ``--sw`` pytest takes no further reports, or there would be
        more failures than were asked for.
        """
        deadline = time.monotonic() + self.grace
        while self._window and time.monotonic() < deadline:
            self._step(min(_TICK, self.grace))
            self._report_ended()
        self._report_ended()
        self._window.cancel()
        deadline = time.monotonic() + _CANCELLING
        while self._window and time.monotonic() < deadline:
            self._step(_TICK)
        self._report_ended()

    def _report_ended(self) -> None:
        session = self.session
        while not (session.shouldfail or session.shouldstop):
            if (ended := self._window.take()) is None:
                return
            self._report(*ended)

    def _abandon(self) -> None:
        """Leave nothing in flight that would go on when the event loop is closed.

        There is something after an exception, which comes from a hook or from a second Ctrl-C, and
        where a run does not let itself be cancelled.
        """
        self._window.abandon()


def _shared(chain: Sequence[object], other: pytest.Item) -> int:
    """Return how many of the collectors in ``chain``, outermost first, hold ``other`` too."""
    return sum(one is two for one, two in zip(chain, other.listchain(), strict=False))
