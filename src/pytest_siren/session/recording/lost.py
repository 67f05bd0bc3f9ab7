"""Whether all runs of a session are still recorded when it ends."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.jobs.records.naming import run_directory
from pytest_siren.jobs.records.schema import RESULT_FILE
from pytest_siren.payloads import RunReport
from pytest_siren.yamlpos.problems import printable


@dataclass(eq=False)
class LostRecords:
    """Looks for the record of every run that was reported: somebody may have removed it since."""

    config: pytest.Config
    _places: list[tuple[str, str]] = field(default_factory=list)
    """Job and folder of each."""
    _lines: list[str] = field(default_factory=list)

    def pytest_siren_run_report(self, report: RunReport) -> None:
        """Note where the run is recorded."""
        place = run_directory(report.task_id, report.attack, report.run_id)
        self._places.append((report.job, place))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look, and turn exit code 0 into 1 if any is gone: the next session will not know it."""
        root = Path(self.config.rootpath)
        lost = Counter(
            job
            for job, place in self._places
            if not os.path.exists(root / job / place / RESULT_FILE)
        )
        for job, count in lost.items():
            runs = f"the record of {count:,} run{'s' if count > 1 else ''}"
            self._lines.append(
                printable(f"ERROR: {runs} was removed from {job} while the session ran")
            )
        if lost and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None]:
        """Name the jobs whose records are gone."""
        yield
        for line in self._lines:
            terminalreporter.write_line(line, red=True)
