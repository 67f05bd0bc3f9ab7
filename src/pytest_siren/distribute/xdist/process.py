"""The executors of xdist's processes. Nothing heavy: it is loaded when pytest configures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.config.options import grace
from pytest_siren.session.config.processes import Part, Role
from pytest_siren.session.config.stash import SESSION

if TYPE_CHECKING:
    from pytest_siren.distribute.xdist.controller import Controller
    from pytest_siren.sharing.state import SharedState

_KEY = "siren_session"
"""Under which a worker finds what the controller decided."""
_FIRST = "gw0"
"""Name of the worker that does what one has to do for all."""


@dataclass(eq=False)
class Controlling:
    """The executor of the process that starts xdist's workers; also a plugin for its hooks."""

    config: pytest.Config
    role: Role = field(default_factory=lambda: Role(Part.CONTROLLER, first=False))
    launcher: str = "xdist"
    decided: Mapping[str, Any] | None = None
    begins_early: bool = True
    detached: bool = False
    _controller: Controller | None = None

    def __post_init__(self) -> None:
        self.config.pluginmanager.register(self, "siren-xdist")

    @property
    def repeats(self) -> bool:
        """Whether every worker executes all runs."""
        return str(self.config.getoption("dist")) == "each"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Look after xdist's workers."""
        plugins = session.config.pluginmanager
        if (dsession := plugins.get_plugin("dsession")) is not None:
            from pytest_siren.distribute.xdist.controller import Controller

            self._controller = Controller(session.config, dsession)
            plugins.register(self._controller, "siren-controller")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what the controller decided."""
        from pytest_siren.session.lifecycle.begin import for_process

        session = node.config.stash[SESSION]
        node.workerinput[_KEY] = for_process(session, node.gateway.id, own_jobs=self.repeats)

    def attach(self, jobs: Mapping[str, str]) -> frozenset[int]:
        """Refuse to go on with jobs that the elements of a cluster still execute."""
        from pytest_siren.distribute.cluster.attach import live_sessions

        if found := live_sessions(self.config, jobs):
            raise pytest.UsageError(
                f"{found[0].elements.title} still executes these jobs: follow it without -n and "
                "--dist, and execute what it leaves afterwards"
            )
        return frozenset()

    def join(self) -> SharedState:
        """Never happens: a controller collects no eval files."""
        raise NotImplementedError

    def leave(self) -> None:
        """Do nothing: the controller does so when all workers have gone."""

    @property
    def state(self) -> SharedState | None:
        """What the workers share."""
        return None if self._controller is None else self._controller.board

    def collected(self, session: pytest.Session) -> None:
        """Never happens: a controller collects nothing."""

    def execute(self, session: pytest.Session) -> bool:
        """Leave it to xdist's loop."""
        return False

    def finish(self, jobs: Sequence[Path]) -> None:
        """Never happens: a controller writes no records."""

    def planned(self) -> Sequence[Mapping[str, Any]] | None:
        """Return what workers have told."""
        from pytest_siren.session.recording.shared_folder import SessionFolder

        return list(SessionFolder.of(self.config.stash[SESSION].id).planned())

    @property
    def total(self) -> int:
        """Runs that the workers have collected, if they have jobs for them."""
        return 0 if self._controller is None else self._controller.total

    @property
    def deaths(self) -> int:
        """Workers that died with runs in flight."""
        return 0 if self._controller is None else self._controller.deaths

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why no run on some models can succeed, unless the session ends with these reasons."""
        return () if self._controller is None else self._controller.unavailable

    def settle(self) -> None:
        """Let no further runs begin; those in flight go on."""
        if self._controller is not None:
            self._controller.settle()

    def drop(self, nodeids: Iterable[str]) -> None:
        """Give no worker these runs any more."""
        if self._controller is not None:
            self._controller.drop(nodeids)


@dataclass(eq=False)
class Worker:
    """The executor of one of xdist's workers."""

    config: pytest.Config
    launcher: str = "xdist"
    repeats: bool = False
    detached: bool = False
    total: int = 0
    """The controller knows."""
    deaths: int = 0
    unavailable: tuple[str, ...] = ()
    state: SharedState | None = None
    """The state that ``join`` returned."""

    @cached_property
    def role(self) -> Role:
        """What this process is."""
        given: dict[str, Any] = self.config.workerinput  # type: ignore[attr-defined]
        name = str(given["workerid"])
        return Role(
            Part.WORKER,
            name,
            first=name == _FIRST,
            processes=int(given["workercount"]),
            # A worker is a child of the controller, unless it runs on another machine.
            session_process=os.getppid(),
        )

    @property
    def decided(self) -> Mapping[str, Any] | None:
        """What the controller decided on the session."""
        decided: Mapping[str, Any] = self.config.workerinput[_KEY]  # type: ignore[attr-defined]
        return decided

    @property
    def begins_early(self) -> bool:
        """Whether the session resumes another one."""
        decided = self.decided
        return decided is not None and decided["resume"] is not None

    def attach(self, jobs: Mapping[str, str]) -> frozenset[int]:
        """Follow nobody: the controller has looked."""
        return frozenset()

    def join(self) -> SharedState:
        """Return the state of the session, in a temporary folder of this machine."""
        from pytest_siren.session.recording.shared_folder import SessionFolder

        self.state = SessionFolder.of(self.config.stash[SESSION].id).board()
        return self.state

    def leave(self) -> None:
        """Do nothing: others may need it."""

    def collected(self, session: pytest.Session) -> None:
        """Tell the controller which of the items are runs."""
        from pytest_siren.distribute.xdist.worker import tell_collected

        tell_collected(session, self.role.name)

    def execute(self, session: pytest.Session) -> bool:
        """Execute the items that the controller sends, where there are runs among all of them."""
        from pytest_siren.distribute.xdist.worker import run_on_worker
        from pytest_siren.session.execution.executor import evaluations_of
        from pytest_siren.session.execution.run_loop import has_runs

        if not has_runs(session):
            return False
        run_on_worker(session, evaluations_of(self.config), grace(self.config))
        return True

    def finish(self, jobs: Sequence[Path]) -> None:
        """Merge the indexes of ``jobs`` that no other worker writes to; else the controller does.

        With ``--dist each`` every worker has jobs of its own, and the controller does not know all.
        """
        from pytest_siren.jobs.writing.index import merge_indexes

        session = self.config.stash[SESSION]
        if session.records_id != session.id:
            merge_indexes(jobs)

    def planned(self) -> Sequence[Mapping[str, Any]] | None:
        """Return ``None``: this process has collected."""
        return None

    def settle(self) -> None:
        """Let no further runs begin; those in flight go on."""
        if self.state is not None:
            self.state.settle()

    def drop(self, nodeids: Iterable[str]) -> None:
        """Leave it to the controller."""
