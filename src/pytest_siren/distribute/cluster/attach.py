"""Finds sessions of a cluster that still execute jobs, and follows them: ``--lf``, ``--resume``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.distribute.cluster.plan import Plan, PlanError, SessionStore, stores
from pytest_siren.distribute.cluster.terminal import say
from pytest_siren.session.config.options import chosen_jobs_dir, grace

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.following import Elements
    from pytest_siren.session.execution.executor import Evaluations
    from pytest_siren.sharing.files import SharedFiles
    from pytest_siren.sharing.state import Gauge, SharedState


@dataclass(eq=False)
class Attached:
    """A session that an earlier process submitted, and whose elements have not all ended."""

    store: SessionStore
    plan: Plan
    elements: Elements

    @property
    def state(self) -> SharedFiles:
        """What its processes share."""
        return self.elements.state

    @property
    def pids(self) -> frozenset[int]:
        """Ids of its processes on this host."""
        return self.elements.presence.pids()

    def close(self) -> None:
        """Let go of it, and remove its folder where all elements have ended well."""
        self.elements.engine.close()
        self.state.close()
        if self.elements.all_ended:
            if self.elements.failed:
                self.store.remove_but_logs()
            else:
                self.store.remove()


@dataclass(frozen=True)
class Gauges:
    """The gauges of several sessions together."""

    states: Sequence[SharedState]

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes."""
        return sum(state.total(gauge) for state in self.states)

    def earliest(self, gauge: Gauge) -> float:
        """Return the smallest nonzero value among living processes."""
        found = (state.earliest(gauge) for state in self.states)
        return min((value for value in found if value), default=0.0)


def live_sessions(config: pytest.Config, jobs: Mapping[str, str]) -> list[Attached]:
    """Return the sessions that still execute any of ``jobs``: identities and paths of folders.

    Those that have come to their end are passed over: all that they came to is recorded.
    """
    from pytest_siren.session.recording.recorder import DEFAULT_JOBS_DIR

    places = {Path(path).parent for path in jobs.values()}
    places.add(chosen_jobs_dir(config) or config.rootpath / DEFAULT_JOBS_DIR)
    found: list[Attached] = []
    for store in (store for place in sorted(places) for store in stores(place)):
        if (attached := _live(config, store, jobs)) is not None:
            found.append(attached)
    return found


def _live(config: pytest.Config, store: SessionStore, jobs: Mapping[str, str]) -> Attached | None:
    submitted = store.submitted()
    if not submitted:
        return None
    try:
        plan = store.plan()
    except PlanError as error:
        config.issue_config_time_warning(pytest.PytestWarning(str(error)), stacklevel=2)
        return None
    if plan.jobs().keys().isdisjoint(jobs):
        return None
    from pytest_siren.distribute.cluster.engines.by_name import engine_named
    from pytest_siren.distribute.cluster.following import Elements
    from pytest_siren.distribute.cluster.presence import Presence
    from pytest_siren.sharing.files import SharedFiles

    state = SharedFiles.open(store.state)
    presence = Presence(store.presence, state.living)
    engine = engine_named(submitted[0].engine, store.engine)
    elements = Elements(engine, presence, state, lambda line: say(config, f"siren: {line}"))
    for one in submitted:
        elements.add(one)
    attached = Attached(store, plan, elements)
    elements.look(quiet=True)
    if elements.all_ended and not any(map(presence.alive, presence.names())):
        attached.close()
        return None
    return attached


def go_on_after(
    session: pytest.Session, evaluations: Evaluations, grace: float, attached: Sequence[Attached]
) -> None:
    """Follow ``attached`` to their ends, and execute here what they leave.

    Raises what pytest's own loop raises when the session is stopped.
    """
    from pytest_siren.session.execution.run_loop import (
        begin_jobs,
        count_runs,
        run_here,
        showing_progress,
        warm_up,
    )

    begin_jobs(session, evaluations)
    evaluations.total = count_runs(session.items)
    gauges = Gauges([evaluations.board, *(one.state for one in attached)])
    with showing_progress(session, evaluations.total, gauges):
        reported = follow_attached(session, attached)
        if left := [item for item in session.items if item.nodeid not in reported]:
            warm_up(session, evaluations, left)
            run_here(session, evaluations, grace, left)


def follow_attached(session: pytest.Session, attached: Iterable[Attached]) -> set[str]:
    """Report what ``attached`` sessions have come to, and follow them to their ends.

    Returns the node ids of the runs that were reported. What they leave, this session executes.
    Raises what pytest's own loop raises when the session is stopped.
    """
    from pytest_siren.distribute.cluster.engines.base import ElementState
    from pytest_siren.distribute.cluster.following import Follower
    from pytest_siren.session.execution.run_loop import raise_stopped
    from pytest_siren.session.items.job import RunItem

    reported: set[str] = set()
    runs = {item.nodeid: item for item in session.items if isinstance(item, RunItem)}
    for one in attached:
        known = one.plan.jobs()
        planned = (runs.get(nodeid) for nodeid in one.plan.nodeids())
        items = {
            item.nodeid: item for item in planned if item is not None and item.job.identity in known
        }
        say(session.config, f"siren: follows {one.elements.title}, which executes these runs")
        follower = Follower(
            session,
            one.store,
            one.plan,
            one.elements,
            items,
            grace(session.config),
            own=False,
        )
        if one.state.stopped is not None:
            # What has not begun would only find that out.
            one.elements.cancel(one.elements.in_state(ElementState.PENDING))
        try:
            follower.follow()
        finally:
            one.close()
        reported |= follower.reported
        for nodeid in items.keys() - reported:
            # A process may have recorded it and died before it could say so.
            items[nodeid].reported = True
        raise_stopped(session, follower.stopped)
    return reported
