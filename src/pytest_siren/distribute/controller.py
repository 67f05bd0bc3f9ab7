"""The xdist controller: it tells workers to stop, and notices when one dies.

Nothing of what executes runs is loaded here: the workers wait for the controller to start them.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.distribute.choice import ChosenScheduling
from pytest_siren.distribute.scheduler import RunScheduling
from pytest_siren.evaluation.isolation import INTERRUPTED, sigterm_as_ctrl_c
from pytest_siren.payloads import RunReport
from pytest_siren.session.config.options import grace
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.execution.counts import Facts
from pytest_siren.session.items.report import from_properties
from pytest_siren.session.recording.shared_folder import Collected, SessionFolder
from pytest_siren.session.recording.untouched_jobs import remove_untouched
from pytest_siren.session.resume.save import remember
from pytest_siren.sharing.board import Board, Gauge

_PATIENCE = 20.0
"""Seconds, beyond the grace, that interrupted workers have to send what they know."""


class Controller:
    """Looks after the workers of one session."""

    def __init__(self, config: pytest.Config, dsession: Any) -> None:
        self._config = config
        self._dsession = dsession
        self._failures = 0
        self._board: Board | None = None
        self._scheduling: ChosenScheduling | None = None
        self._remembered = False

    @property
    def board(self) -> Board | None:
        """The session's board; ``None`` while no worker has seen an eval file."""
        folder = SessionFolder.of(self._config.stash[SESSION].id)
        if self._board is None and folder.exists():
            self._board = folder.board()
        return self._board

    def facts(self) -> Facts | None:
        """Return what is to be said at the end; ``None`` when there were no runs to begin with."""
        collected = SessionFolder.of(self._config.stash[SESSION].id).collected()
        if (board := self.board) is None or collected is None or not collected.jobs:
            return None
        cancelled = int(board.total(Gauge.CANCELLED))
        deaths = getattr(self._scheduling and self._scheduling.chosen, "deaths", 0)
        hung, ended = int(board.total(Gauge.HUNG)), int(board.total(Gauge.ENDED))
        ends_with = str(self._dsession.shouldstop)
        return Facts(
            collected.total,
            cancelled=cancelled,
            deaths=deaths,
            hung=hung,
            ended=ended,
            unavailable=tuple(one for one in board.stopped_keys() if one not in ends_with),
        )

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
            progress: Any = self._config.pluginmanager.get_plugin("siren-progress")
            progress.begin(collected.total, board)

    def _announce(self, collected: Collected) -> None:
        """Show what the first evaluations of a project are about to spend, if nobody named them."""
        from pytest_siren.session.lifecycle.start import announcement, is_unasked

        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and is_unasked(self._config):
            for line in announcement(self._config, collected.paid):
                reporter.ensure_newline()
                reporter.write_line(line)

    def _check_stop(self) -> None:
        """Raise ``pytest.UsageError`` if there is nothing that could be settled early."""
        from pytest_siren.session.config.figure_options import option_gates
        from pytest_siren.session.gating.early_stopping.eligibility import (
            NOTHING_TO_STOP,
            nothing_to_stop,
        )
        from pytest_siren.session.gating.manifest import told

        plan = told(self._config)
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

    def decide(self, report: RunReport, runs: int) -> None:
        """Let no further ones of the ``runs`` runs of the task of ``report`` begin but the first.

        What a worker has been given already, it executes.
        """
        chosen = self._scheduling and self._scheduling.chosen
        stem = report.nodeid.removesuffix(f"{report.run_index}]")
        if isinstance(chosen, RunScheduling) and stem != report.nodeid:
            chosen.drop(f"{stem}{run_index}]" for run_index in range(1, runs))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Count a worker that died, so that what it recorded last is found."""
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

    def pytest_unconfigure(self) -> None:
        """Remove what the processes shared."""
        folder = SessionFolder.of(self._config.stash[SESSION].id)
        if self._board is not None:
            collected = folder.collected()
            if collected is not None and self._board.stopped_keys():
                remove_untouched(self._config, map(Path, collected.jobs.values()))
            self._board.close()
        folder.remove()
