"""The reporting side, on the controller: words, letters, failure lines and the summary.

Loaded by every pytest session, so standard library only until a run is reported.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import pytest

from pytest_siren.hookspecs import RunReport
from pytest_siren.session.outcome import from_properties
from pytest_siren.session.state import is_worker

UNKNOWN = "unknown"
"""pytest's category for runs whose score would prove nothing."""


@dataclass(eq=False)
class Reporting:
    """Gathers the reports of runs and shows what they came to."""

    config: pytest.Config
    _reports: list[RunReport] = field(default_factory=list)
    _nodeids: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a finished run came to."""
        if is_worker(self.config):
            return
        run = from_properties(report)
        if run is not None:
            self._reports.append(run)
            self._nodeids.add(report.nodeid)
            self.config.hook.pytest_siren_run_report(report=run)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> Any:
        """Give resisted, hijacked, unknown and errored runs a word and a letter each."""
        run = from_properties(report) if isinstance(report, pytest.TestReport) else None
        return None if run is None else status(report.outcome, run)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None]:
        """Show failed runs in one line each, then the table.

        pytest's own sections give every failure at least two lines, so runs are kept out of them
        unless ``-v`` asks for more.
        """
        if not self._reports:
            yield
            return
        stats = terminalreporter.stats
        kept = {category: list(stats.get(category, ())) for category in ("failed", "error")}
        if self.config.get_verbosity() < 1:
            for category, reports in kept.items():
                stats[category] = [rep for rep in reports if rep.nodeid not in self._nodeids]
        try:
            yield
        finally:
            stats.update({category: reports for category, reports in kept.items() if reports})
        if self.config.get_verbosity() < 1:
            self._failure_lines(terminalreporter, kept)
        self._table(terminalreporter)

    def _failure_lines(self, terminalreporter: Any, kept: dict[str, list[Any]]) -> None:
        reports = [rep for found in kept.values() for rep in found if rep.nodeid in self._nodeids]
        if not reports or self.config.getoption("reportchars") == "N":
            return
        terminalreporter.section("runs that did not pass", sep="=", bold=True)
        for rep in reports:
            word = self.config.hook.pytest_report_teststatus(report=rep, config=self.config)[2]
            word, markup = word if isinstance(word, tuple) else (word, {"red": True})
            terminalreporter.write(word, **markup)
            terminalreporter.line(f" {rep.nodeid} - {rep.longrepr}")

    def _table(self, terminalreporter: Any) -> None:
        from pytest_siren.metrics.summary import rows
        from pytest_siren.session.table import render

        ks = tuple(dict.fromkeys(self.config.getoption("pass_k"))) or (1,)
        terminalreporter.section("evaluations", sep="=", bold=True)
        for line in render(
            rows(self._reports, ks), ks, get_terminal_size().columns, Path(self.config.rootpath)
        ):
            terminalreporter.line(line)


def status(outcome: str, run: RunReport) -> tuple[str, str, str | tuple[str, dict[str, bool]]]:
    """Return pytest's category, the letter and the word (with its colour) of a run."""
    if run.status == "error":
        return "error", "E", ("ERROR", {"red": True})
    if outcome == "skipped":
        return UNKNOWN, "?", ("UNKNOWN", {"yellow": True})
    colour = {"green": True} if outcome == "passed" else {"red": True}
    if run.attack is None:
        letter, word = (".", "PASSED") if outcome == "passed" else ("F", "FAILED")
    elif run.attack_score == 1.0:
        letter, word = "H", "HIJACKED"
    else:
        letter, word = "r", "RESISTED"
    return outcome, letter, (word, colour)
