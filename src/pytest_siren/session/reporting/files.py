"""``--siren-report``: reports of a session, written to files at its end."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_siren.metrics.gates.result import GateResult
from pytest_siren.payloads import RunReport
from pytest_siren.reports.formats import MARKDOWN, ReportError, Target
from pytest_siren.session.config.option_groups import on_github, targets
from pytest_siren.session.config.processes import executor_of

if TYPE_CHECKING:
    from pytest_siren.metrics.gates.baseline import Baseline
    from pytest_siren.reports.data import ReportData

T = TypeVar("T")


@dataclass(eq=False)
class ReportFiles:
    """Collects the reports of runs and writes report files when the session ends."""

    config: pytest.Config
    baseline: Baseline | None = None
    """The runs to compare with."""
    _reports: list[RunReport] = field(default_factory=list)
    _gates: list[GateResult] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _lines: list[tuple[str, dict[str, bool]]] = field(default_factory=list)

    def pytest_siren_run_report(self, report: RunReport) -> None:
        """Keep the report of a finished run."""
        self._reports.append(report)

    def pytest_siren_gate_report(self, result: GateResult) -> None:
        """Keep the result of a gate."""
        self._gates.append(result)

    # Last, because gates are evaluated in the same hook.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files; one that cannot be written turns exit code 0 into 1."""
        wanted = targets(self.config)
        summary = os.environ.get("GITHUB_STEP_SUMMARY") if on_github(self.config) else None
        if not (wanted or summary) or self.config.option.collectonly:
            return
        if executor_of(self.config).detached:
            self._say("no report: the runs go on, and a session that follows them can report")
            return
        if not self._reports:
            # Without runs, only the Markdown report has content: the gates.
            gated = bool(self._gates) and not session.testsfailed
            left = [one for one in wanted if gated and one.format == MARKDOWN]
            if len(left) < len(wanted):
                self._say("no report: nothing was run to its end", yellow=True)
            wanted, summary = left, summary if gated else None
            if not (wanted or summary):
                return
        whole = self._write(wanted, summary)
        if not whole and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None]:
        """Print at the very end which files were written, and GitHub's annotations of gates."""
        yield
        for line, markup in self._lines:
            terminalreporter.write_line(line, **markup)
        self._lines.clear()
        if self._gates and on_github(self.config):
            from pytest_siren.session.reporting.annotations import annotate
            from pytest_siren.session.reporting.file_data import source_root

            root = Path(self.config.rootpath)
            for line in annotate(self._gates, root, source_root(root)):
                terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        """Write pending messages to standard error: after ``pytest.exit`` there is no summary."""
        for line, _ in self._lines:
            sys.stderr.write(f"{line}\n")

    def _write(self, wanted: list[Target], summary: str | None) -> bool:
        """Write the reports that the options name; return whether all were written.

        GitHub's summary is no option: a failure to write it is only reported.
        """
        from pytest_siren.session.reporting.file_data import report_data

        took = time.monotonic() - self._began
        data = self._tried(
            "the reports",
            lambda: report_data(self.config, self._reports, self._gates, took, self.baseline),
        )
        if data is None:
            return not wanted
        written = [self._tried(str(one.path), partial(_written, one, data)) for one in wanted]
        for path in filter(None, written):
            self._say(f"report: {data.shown(path)}")
        if summary:
            from pytest_siren.reports.markdown import append_summary

            append = partial(append_summary, Path(summary), data)
            self._tried("the summary of GitHub Actions ($GITHUB_STEP_SUMMARY)", append)
        return None not in written

    def _tried(self, what: str, make: Callable[[], T]) -> T | None:
        """Return the result of ``make``; if it raises, ``None``, and note it for the summary."""
        try:
            return make()
        except ReportError as error:
            self._say(f"ERROR: {error}", red=True)
        except OSError as error:
            self._say(f"ERROR: cannot write {what}: {error}", red=True)
        except Exception as error:  # noqa: BLE001 - shown in full below the summary, which it would hide
            self._say(f"ERROR: cannot make {what}, please report this:", red=True)
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._say(line)
        return None

    def _say(self, line: str, **markup: bool) -> None:
        from pytest_siren.text.words import escaped

        self._lines.append((escaped(line), markup))


def _written(target: Target, data: ReportData) -> Path:
    target.write(data)
    return target.path
