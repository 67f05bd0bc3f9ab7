"""Progress while evaluations run, on the controller: a live line, or plain lines in a log."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.config.options import progress_period

if TYPE_CHECKING:
    from pytest_siren.payloads import RunReport
    from pytest_siren.session.reporting.progress.counters import Gauges, Progress
    from pytest_siren.session.reporting.progress.live_line import LiveLine
    from pytest_siren.session.reporting.progress.plain_lines import PlainLines


class ProgressReporting:
    """Shows how far the evaluations are, between ``begin`` and ``end``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._period = progress_period(config)
        self._progress: Progress | None = None
        self._live: LiveLine | None = None
        self._lines: PlainLines | None = None
        self._fd: int | None = None

    def begin(self, total: int, board: Gauges) -> None:
        """Show progress from now on.

        ``total`` runs will be reported; ``board`` must stay open until ``end``. To be called in the
        main thread, once the items are known and before the first run starts.
        """
        if self._progress is not None or not self._wanted():
            return
        from pytest_siren.session.reporting.progress.counters import Progress, live, plain
        from pytest_siren.session.reporting.progress.live_line import LiveLine
        from pytest_siren.session.reporting.progress.plain_lines import PlainLines

        progress = self._progress = Progress(
            total, board, firsts=bool(self._config.getoption("siren_gate_stop"))
        )
        self._fd = self._terminal()
        if self._fd is not None:
            self._live = LiveLine(self._fd, lambda width: live(progress.figures(), width))
            self._live.start()
        else:
            self._lines = PlainLines(self._config, lambda: plain(progress.figures()), self._period)
            self._lines.start()

    def tick(self) -> None:
        """Write a plain line if it is time to. Called by the run loop, a few times a second."""
        if self._lines is not None:
            self._lines.tick()

    def end(self) -> None:
        """Show no more, and leave a terminal as if nothing had been shown. May be called again."""
        if self._lines is not None:
            self._lines.end()
            self._lines = None
        if self._live is not None:
            self._config.get_terminal_writer().flush()
            self._live.end()
            self._live = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._progress = None

    def pytest_siren_run_report(self, report: RunReport) -> None:
        if self._progress is not None:
            self._progress.finished(report)

    def pytest_enter_pdb(self) -> None:
        if self._live is not None:
            self._live.pause()

    def pytest_leave_pdb(self) -> None:
        if self._live is not None:
            self._live.resume()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        self.end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.end()

    def pytest_unconfigure(self) -> None:
        self.end()

    def _wanted(self) -> bool:
        option = self._config.option
        return not (
            option.siren_no_progress
            or option.collectonly
            or self._config.get_verbosity() <= -2
            or not self._config.pluginmanager.has_plugin("terminalreporter")
        )

    def _terminal(self) -> int | None:
        """Return a descriptor of our own for a terminal that can show a live line, if there is."""
        from pytest_siren.session.reporting.progress.live_line import capable
        from pytest_siren.session.reporting.progress.plain_lines import uncaptured

        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if not reporter.isatty() or any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER")):
            return None
        # The stream that Python began with: pytest and tests may have replaced ``sys.stdout``.
        stream = sys.__stdout__
        if stream is None or stream.closed:
            return None
        self._config.get_terminal_writer().flush()
        with uncaptured(self._config):
            fd = os.dup(stream.fileno())
        if not capable(fd, os.environ):
            os.close(fd)
            return None
        return fd
