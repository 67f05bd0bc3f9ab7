"""Chooses the executor of a process; the one of a session without workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.distribute.cluster import ASSIGNMENT
from pytest_siren.session.config.option_groups import check_submission, submission
from pytest_siren.session.config.options import RunMode, grace, run_mode
from pytest_siren.session.config.processes import Role
from pytest_siren.session.config.stash import EVALUATIONS, SESSION

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.attach import Attached
    from pytest_siren.session.config.processes import Executor
    from pytest_siren.sharing.state import SharedState


def executor_for(config: pytest.Config) -> Executor:
    """Return the executor that the options of ``config`` ask for.

    To be called when pytest configures the session, after options have their final values.
    """
    if hasattr(config, "workerinput"):
        if ASSIGNMENT in config.workerinput:
            from pytest_siren.distribute.cluster.process import ElementProcess

            return ElementProcess(config)
        from pytest_siren.distribute.xdist.process import Worker

        return Worker(config)
    asked = submission(config)
    executes = run_mode(config) is RunMode.NORMAL and not config.option.collectonly
    if asked is not None and executes:
        from pytest_siren.distribute.cluster.controller import Submitting

        check_submission(config)
        return Submitting(config, asked, _processes(config))
    distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", None)
    if distributed and not config.option.collectonly:
        from pytest_siren.distribute.xdist.process import Controlling

        return Controlling(config)

    return Alone(config)


def _processes(config: pytest.Config) -> int:
    """Return how many processes each element has, and let xdist start none here."""
    processes: int | None = config.getoption("numprocesses", None)
    if hasattr(config.option, "dist"):
        config.option.dist, config.option.tx, config.option.numprocesses = "no", [], None
    return processes or 1


@dataclass(eq=False)
class Alone:
    """Executes all runs in this process."""

    config: pytest.Config
    role: Role = field(default_factory=Role)
    launcher: str = "local"
    repeats: bool = False
    decided: Mapping[str, Any] | None = None
    begins_early: bool = False
    detached: bool = False
    deaths: int = 0
    state: SharedState | None = None
    """The state that ``join`` returned."""
    _attached: Sequence[Attached] = ()

    def attach(self, jobs: Mapping[str, str]) -> frozenset[int]:
        """Follow the elements of a cluster that still execute ``jobs``, and go on with the rest."""
        from pytest_siren.distribute.cluster.attach import live_sessions

        self._attached = live_sessions(self.config, jobs)
        return frozenset[int]().union(*(one.pids for one in self._attached))

    def join(self) -> SharedState:
        """Return the state of this session, in a temporary folder."""
        from pytest_siren.sharing.state import TemporaryFolder, sweep_temporary

        folder = TemporaryFolder.of(self.config.stash[SESSION].id)
        sweep_temporary()
        self.state = folder.board()
        return self.state

    def leave(self) -> None:
        """Remove that folder."""
        from pytest_siren.sharing.state import TemporaryFolder

        TemporaryFolder.of(self.config.stash[SESSION].id).remove()

    def collected(self, session: pytest.Session) -> None:
        """Nobody else has to know."""

    def execute(self, session: pytest.Session) -> bool:
        """Execute all items, where there are runs among them."""
        from pytest_siren.session.execution.executor import evaluations_of
        from pytest_siren.session.execution.run_loop import has_runs, run_locally

        if not has_runs(session):
            return False
        if self._attached:
            from pytest_siren.distribute.cluster.attach import go_on_after

            go_on_after(session, evaluations_of(self.config), grace(self.config), self._attached)
        else:
            run_locally(session, evaluations_of(self.config), grace(self.config))
        return True

    def finish(self, jobs: Sequence[Path]) -> None:
        """Merge the indexes of ``jobs``."""
        from pytest_siren.jobs.writing.index import merge_indexes

        merge_indexes(jobs)

    def planned(self) -> Sequence[Mapping[str, Any]] | None:
        """Return ``None``: this process has collected."""
        return None

    @property
    def total(self) -> int:
        """Runs that this process is to execute."""
        evaluations = self.config.stash.get(EVALUATIONS, None)
        return 0 if evaluations is None else evaluations.total

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why no run on some models can succeed, unless the session ends with these reasons."""
        evaluations = self.config.stash.get(EVALUATIONS, None)
        if evaluations is None or evaluations.unavailable_named:
            return ()
        return tuple(evaluations.board.stopped_keys())

    def settle(self) -> None:
        """Let no further runs begin."""
        if self.state is not None:
            self.state.settle()

    def drop(self, nodeids: Iterable[str]) -> None:
        """Leave it to the run loop, which counts for itself."""
