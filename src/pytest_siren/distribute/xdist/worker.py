"""An xdist worker: its items come from the controller, bit by bit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_siren.evaluation.isolation import INTERRUPTED
from pytest_siren.jobs.records.attempt import make_ready
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.execution.executor import Evaluations, evaluations_of
from pytest_siren.session.execution.run_loop import (
    CANNOT_BEGIN,
    Drive,
    Line,
    broken_collection,
    spending_allowed,
    window_size,
)
from pytest_siren.session.gating.manifest import publish_manifest
from pytest_siren.session.items.job import RunItem
from pytest_siren.session.lifecycle.first_spend import paid_runs
from pytest_siren.session.recording.recorder import RECORDER
from pytest_siren.session.recording.shared_folder import Collected, SessionFolder, ranges

_END = object()
"""What the channel hands over when the controller has gone."""


@dataclass
class WorkerFeed:
    """Items that the controller sends. ``interactor`` is xdist's side of the connection.

    xdist has no interface for a loop of one's own: of its interactor this uses the queue
    ``torun``, ``handle_command``, ``item_index`` and ``sendevent``, as its own loop does.
    """

    interactor: Any
    session: pytest.Session
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._positions = {id(item): index for index, item in enumerate(self.session.items)}
        self._gone = threading.Event()

    def listen(self, wake: Callable[[], None]) -> None:
        """Take commands of the controller from now on."""

        def receive(command: Any) -> None:
            if command is _END:
                self._gone.set()
            else:
                self.interactor.handle_command(command)
            wake()

        self.interactor.channel.setcallback(receive, endmarker=_END)

    def poll(self, line: Line, room: int) -> None:
        """Put what the controller has sent into ``line``."""
        with self.interactor.torun.lock() as received:
            while received:
                index = received.popleft()
                if isinstance(index, int):
                    line.put(self.session.items[index])
                else:
                    self.closed = True
        self.closed = self.closed or self._gone.is_set()

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None, duration: float) -> None:
        """Take ``item`` through pytest's protocol and tell the controller that it is done."""
        index = self._positions[id(item)]
        self.interactor.item_index = index
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        self.interactor.sendevent("runtest_protocol_complete", item_index=index, duration=duration)

    def skip(self, item: pytest.Item) -> None:
        """Tell the controller that it need not wait for ``item``."""
        index = self._positions[id(item)]
        self.interactor.sendevent("runtest_protocol_complete", item_index=index, duration=0.0)


def tell_collected(session: pytest.Session, name: str) -> None:
    """Tell the controller which of the items are runs, once all is loaded that they need.

    ``name`` is that of this worker.
    The workers begin together, when the last of them has collected.
    """
    make_ready()
    items = session.items
    runs = ranges([index for index, item in enumerate(items) if isinstance(item, RunItem)])
    jobs: dict[str, str] = {}
    if not (broken_collection(session) or session.config.option.collectonly):
        recorder = session.config.stash[RECORDER]
        try:
            jobs = recorder.begin(item for item in items if isinstance(item, RunItem))
            evaluations_of(session.config).warm_up(items)
        except CANNOT_BEGIN as error:
            session.shouldstop = str(error)
    folder = SessionFolder.of(session.config.stash[SESSION].id)
    publish_manifest(session, folder)
    folder.write_pid(name)
    paid = paid_runs(items, evaluations_of(session.config).workshop.prices)
    folder.write_collected(Collected(runs, window_size(items), jobs, paid, _recorded(session)))


def _recorded(session: pytest.Session) -> list[tuple[int, int]]:
    """Return the positions of runs that are reported from their records."""
    evaluations = evaluations_of(session.config)
    if session.config.stash[SESSION].resume is None or session.config.option.collectonly:
        return []
    places = enumerate(session.items)
    return ranges(
        [
            index
            for index, item in places
            if isinstance(item, RunItem) and evaluations.is_recorded(item)
        ]
    )


def run_on_worker(session: pytest.Session, evaluations: Evaluations, grace: float) -> None:
    """Execute the items that the controller sends, and tell it why if they were not all.

    xdist itself executes what could be collected, whatever went wrong; runs are too dear for that.
    """
    if broken := broken_collection(session):
        session.shouldstop = broken
        return
    interactor = next(
        plugin
        for plugin in session.config.pluginmanager.get_plugins()
        if type(plugin).__name__ == "WorkerInteractor"
    )
    size = window_size(session.items)
    drive = Drive(
        session,
        evaluations,
        WorkerFeed(interactor, session),
        size,
        grace,
        may_start=spending_allowed(session.config, evaluations),
    )
    drive.run()
    if drive.stopped == INTERRUPTED:
        evaluations.board.stop(INTERRUPTED)
    if drive.stopped is not None and not session.shouldfail:
        session.shouldstop = drive.stopped
