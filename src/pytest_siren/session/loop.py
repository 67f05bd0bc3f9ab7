"""pytest's loop over a session's items, in a process of its own or under xdist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_siren.jobs.read import RecordError
from pytest_siren.jobs.store import JobExistsError
from pytest_siren.session.costoptions import max_cost
from pytest_siren.session.costs import limit_reached
from pytest_siren.session.drive import INTERRUPTED, Drive
from pytest_siren.session.items import RunItem
from pytest_siren.session.line import Line
from pytest_siren.session.remember import remember
from pytest_siren.session.runner import Evaluations

CANNOT_BEGIN = (JobExistsError, RecordError, OSError)
"""What keeps a session from recording anything."""


@dataclass
class LocalFeed:
    """All items of a session without xdist, in their order."""

    items: list[pytest.Item]
    closed: bool = field(default=False, init=False)

    def listen(self, wake: Callable[[], None]) -> None:
        """Nothing comes in later."""

    def poll(self, line: Line) -> None:
        """Put all items into the line, once."""
        if not self.closed:
            for item in self.items:
                line.put(item)
            self.closed = True

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None, duration: float) -> None:
        """Take ``item`` through pytest's protocol."""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)

    def skip(self, item: pytest.Item) -> None:
        """Nobody waits for it."""


def has_runs(session: pytest.Session) -> bool:
    """Whether ``session`` is about to execute runs in this process."""
    return not session.config.option.collectonly and any(
        isinstance(item, RunItem) for item in session.items
    )


def broken_collection(session: pytest.Session) -> str | None:
    """Return why nothing may be executed after errors during collection; ``None`` if it may."""
    errors = session.testsfailed
    if not errors or session.config.option.continue_on_collection_errors:
        return None
    return f"{errors} error{'s' if errors != 1 else ''} during collection"


def window_size(items: list[pytest.Item]) -> int:
    """Return how many runs one process keeps in flight: the most that any job asks for."""
    jobs = {id(item.job): item.job for item in items if isinstance(item, RunItem)}
    return max((job.spec.concurrency for job in jobs.values()), default=1)


def spending_allowed(config: pytest.Config, evaluations: Evaluations) -> Callable[[], str | None]:
    """Return what tells why no further run may start, as far as money goes."""
    limit = max_cost(config)
    return lambda: limit_reached(evaluations.board, limit)


def run_locally(session: pytest.Session, evaluations: Evaluations, grace: float) -> None:
    """Execute all items of ``session``, and raise as pytest's own loop does when stopped."""
    if broken := broken_collection(session):
        raise session.Interrupted(broken)
    items = [item for item in session.items if isinstance(item, RunItem)]
    try:
        remember(session.config, evaluations.recorder.begin(items))
    except CANNOT_BEGIN as error:
        raise session.Interrupted(str(error)) from None
    progress: Any = session.config.pluginmanager.get_plugin("siren-progress")
    drive = Drive(
        session,
        evaluations,
        LocalFeed(session.items),
        window_size(session.items),
        grace,
        may_start=spending_allowed(session.config, evaluations),
        tick=progress.tick,
    )
    evaluations.total = len(items)
    progress.begin(evaluations.total, evaluations.board)
    try:
        drive.run()
    finally:
        progress.end()
    if drive.stopped == INTERRUPTED:
        raise KeyboardInterrupt
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if drive.stopped is not None:
        raise session.Interrupted(drive.stopped)
