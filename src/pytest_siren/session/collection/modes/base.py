"""What all modes have in common: they take the collected runs, and leave none to execute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_siren.session.execution.run_loop import broken_collection
from pytest_siren.session.items.job import Job, RunItem
from pytest_siren.text.words import printable

LONGEST_NAME = 200
"""Terminal cells of what a line shows of a name."""


@dataclass(eq=False)
class Mode:
    """Acts on the runs when everything is collected."""

    config: pytest.Config
    failed: bool = field(default=False, init=False)
    """Whether something could not be done."""
    _acted: bool = field(default=False, init=False)
    _items: list[pytest.Item] = field(default_factory=list, init=False)

    def act(self, runs: Sequence[RunItem]) -> None:
        """Do what the mode is for with ``runs``, those that the session would take."""
        raise NotImplementedError

    def take_collected(self, session: pytest.Session) -> None:
        """Take the items from everybody else, the terminal's list of items among them.

        To be called when everything has been ordered and left out that ever is.
        """
        self._items, session.items[:] = [*session.items], []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Act, unless something could not be collected."""
        if broken_collection(session) is not None:
            return
        runs = [item for item in self._items if isinstance(item, RunItem)]
        self.act(runs)
        self._acted = True
        if others := len(self._items) - len(runs):
            self.say(f"{others:,} other tests: not executed")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """To execute nothing is what was asked for."""
        if self._acted and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK
        if self.failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def say(self, line: str, **markup: bool) -> None:
        """Show a line, whose parts have been made printable."""
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line, **markup)


def jobs_of(runs: Iterable[RunItem]) -> list[Job]:
    """Return the jobs of ``runs``, each once, in their order."""
    return list({id(run.job): run.job for run in runs}.values())


def title(job: Job) -> str:
    """Return what tells ``job`` from others, on one line."""
    file = job.spec.snapshot["eval_file"]
    cell = " ".join(f"{key}={value}" for key, value in job.spec.cell.items())
    attack = job.attack_name or "benign"
    parts = [
        job.dataset.name,
        job.spec.agent_name,
        job.model.label,
        attack,
        *([cell] if cell else []),
    ]
    return printable(f"{file}: {' | '.join(parts)}", LONGEST_NAME)
