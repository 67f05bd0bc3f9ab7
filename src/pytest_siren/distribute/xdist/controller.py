"""The xdist controller: it tells workers to stop, and notices when one dies.

Nothing of what executes runs is loaded here: the workers wait for the controller to start them.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.distribute.xdist.scheduler import RunScheduling
from pytest_siren.distribute.xdist.scheduler_choice import ChosenScheduling
from pytest_siren.evaluation.isolation import INTERRUPTED, sigterm_as_ctrl_c
from pytest_siren.session.config.invocation import remember
from pytest_siren.session.config.options import grace
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.items.report import from_properties
from pytest_siren.session.recording.shared_folder import Collected, SessionFolder
from pytest_siren.session.recording.untouched_jobs import remove_untouched
from pytest_siren.sharing.state import SharedState

if TYPE_CHECKING:
    from pytest_siren.session.reporting.progress.plugin import ProgressReporting

_PATIENCE = 20.0
"""Seconds, beyond the grace, that interrupted workers have to send what they know."""


class Controller:
    """Looks after the workers of one session."""

    def __init__(self, config: pytest.Config, dsession: Any) -> None:
        self._config = config
        self._dsession = dsession
        self._failures = 0
        self._board: SharedState | None = None
        self._scheduling: ChosenScheduling | None = None
        self._remembered = False

    @property
    def board(self) -> SharedState | None:
        """The session's board; ``None`` while no worker has seen an eval file."""
        folder = SessionFolder.of(self._config.stash[SESSION].id)
        if self._board is None and folder.exists():
            self._board = folder.board()
        return self._board

    @property
    def total(self) -> int:
        """Runs that the workers have collected; 0 where they could not make jobs for them."""
        collected = SessionFolder.of(self._config.stash[SESSION].id).collected()
        return collected.total if collected is not None and collected.jobs else 0

    @property
    def deaths(self) -> int:
        """Workers that died with runs in flight."""
        deaths: int = getattr(self._scheduling and self._scheduling.chosen, "deaths", 0)
        return deaths

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why no run on some models can succeed, unless the session ends with these reasons."""
        if (board := self.board) is None:
            return ()
        ends_with = str(self._dsession.shouldstop)
        return tuple(one for one in board.stopped_keys() if one not in ends_with)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Show progress once it is known how much there is to do, and note it down."""
        collected = SessionFolder.of(self._config.stash[SESSION].id).collected()
        if collected is not None and self._config.getoption("siren_gate_stop"):
            self._check_stop()
        if collected is not None and (board := self.board):
            if collected.jobs and not self._remembered:
                self._announce(collected)
                remember(self._config, collected.jobs)
                self._remembered = True
            self._progress.begin(collected.total, board)

    def _announce(self, collected: Collected) -> None:
        """Show what the first evaluations of a project are about to spend, if nobody named them."""
        from pytest_siren.session.lifecycle.begin import is_unasked
        from pytest_siren.session.lifecycle.first_spend import announcement

        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and is_unasked(self._config):
            for line in announcement(self._config, collected.paid):
                reporter.ensure_newline()
                reporter.write_line(line)

    def _check_stop(self) -> None:
        """Raise ``pytest.UsageError`` if there is nothing that could be settled early."""
        from pytest_siren.session.config.option_groups import option_gates
        from pytest_siren.session.gating.early_stopping.eligibility import (
            NOTHING_TO_STOP,
            nothing_to_stop,
        )
        from pytest_siren.session.gating.manifest import RunManifest

        told = SessionFolder.of(self._config.stash[SESSION].id).planned()
        plan = [RunManifest.from_plain(data) for data in told]
        if nothing_to_stop(plan, option_gates(self._config)):
            raise pytest.UsageError(NOTHING_TO_STOP)

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Wait for the collection before xdist's scheduler is taken."""
        if config.getvalue("dist") == "each":
            return None
        others = config.pluginmanager.subset_hook_caller("pytest_xdist_make_scheduler", [self])
        self._scheduling = ChosenScheduling(config, others(config=config, log=log))
        return self._scheduling

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a run that has been told of, and stop all workers at ``-x`` or ``--maxfail``."""
        chosen = self._scheduling and self._scheduling.chosen
        if isinstance(chosen, RunScheduling) and from_properties(report) is not None:
            chosen.mark_run_reported(report.nodeid)
        most = self._config.getvalue("maxfail")
        if report.failed and most:
            self._failures += 1
            if self._failures >= most and (board := self.board):
                board.stop(f"stopping after {self._failures} failures")

    def settle(self) -> None:
        """Let no further runs begin; those in flight go on."""
        chosen = self._scheduling and self._scheduling.chosen
        if board := self.board:
            board.settle()
        if isinstance(chosen, RunScheduling):
            chosen.drop_runs()

    def drop(self, nodeids: Iterable[str]) -> None:
        """Give no worker these runs any more. What one has been given already, it executes."""
        chosen = self._scheduling and self._scheduling.chosen
        if isinstance(chosen, RunScheduling):
            chosen.drop(nodeids)

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodeready(self) -> Generator[None, Any, Any]:
        """Let xdist write that a worker is there without a line of progress in between."""
        with self._progress.held():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> Generator[None, Any, Any]:
        """Count a worker that died, so that what it recorded last is found."""
        self._count_lost(node, error)
        with self._progress.held():
            return (yield)

    @property
    def _progress(self) -> ProgressReporting:
        progress: Any = self._config.pluginmanager.get_plugin("siren-progress")
        return progress  # type: ignore[no-any-return]

    def _count_lost(self, node: Any, error: Any) -> None:
        pid = SessionFolder.of(self._config.stash[SESSION].id).pid(node.gateway.id)
        if error and pid is not None and (board := self.board):
            board.count_lost(pid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """On Ctrl-C, let the workers cancel and record their runs before they are ended.

        A SIGTERM, as schedulers send it, is as good as Ctrl-C.
        """
        with sigterm_as_ctrl_c():
            try:
                # The workers have just been started, and this process has nothing else to do.
                reporting: Any = self._config.pluginmanager.get_plugin("siren-reporting")
                reporting.load()
                return (yield)
            except KeyboardInterrupt:
                self._wind_down()
                raise

    def _wind_down(self) -> None:
        if (board := self.board) is None:
            return
        board.stop(INTERRUPTED)
        self._dsession.triggershutdown()
        patience = _PATIENCE + grace(self._config)
        alarm = threading.Timer(patience, _thread.interrupt_main)
        alarm.daemon = True
        alarm.start()
        try:
            # What xdist keeps here has no other name; without it the last reports would be lost.
            while self._dsession._active_nodes:
                self._dsession.loop_once()
        finally:
            alarm.cancel()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Merge what the workers, which have ended by now, added to the indexes of their jobs."""
        collected = SessionFolder.of(self._config.stash[SESSION].id).collected()
        if collected is None:
            return
        from pytest_siren.jobs.writing.index import merge_indexes

        merge_indexes(job for job in map(Path, collected.jobs.values()) if job.exists())

    def pytest_unconfigure(self) -> None:
        """Remove what the processes shared."""
        folder = SessionFolder.of(self._config.stash[SESSION].id)
        if self._board is not None:
            collected = folder.collected()
            if collected is not None and self._board.stopped_keys():
                remove_untouched(self._config, map(Path, collected.jobs.values()))
            self._board.close()
        folder.remove()
