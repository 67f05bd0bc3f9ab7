"""``--plan-only``: every run in the order of execution, with what would be done with it and why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_siren.session.collection.modes.base import Mode, jobs_of, title
from pytest_siren.session.collection.modes.states import PlannedRun, States
from pytest_siren.session.items.job import RunItem

_NOT_SELECTED = "not selected"


class PlanOnly(Mode):
    """Shows the jobs, then their runs."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._deselected: list[RunItem] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Keep the runs that ``-k``, ``-m`` and the like leave out."""
        self._deselected += [item for item in items if isinstance(item, RunItem)]

    def act(self, runs: Sequence[RunItem]) -> None:
        """Show the plan."""
        planned = States(self.config).all(runs)
        known = {id(run.item) for run in planned}
        left_out = [item for item in self._deselected if id(item) not in known]
        jobs = jobs_of([*(run.item for run in planned), *left_out])
        executed = sum(run.executes for run in planned)
        total = len(planned) + len(left_out)
        self.say(f"plan: {len(jobs):,} jobs, {executed:,} of {total:,} runs to execute", bold=True)
        numbers = {id(job): number for number, job in enumerate(jobs, start=1)}
        for number, job in enumerate(jobs, start=1):
            self.say(f"  job {number}: {job.identity} {title(job)}")
        place = 0
        for run in planned:
            place += run.executes
            self._show(run, str(place) if run.executes else "-", numbers[id(run.item.job)])
        for item in left_out:
            skipped = PlannedRun(item, _NOT_SELECTED, executes=False)
            self._show(skipped, "-", numbers[id(item.job)])
        self.say("nothing was executed or written")

    def _show(self, run: PlannedRun, place: str, job: int) -> None:
        what = "execute" if run.executes else "skip"
        item = run.item
        self.say(f"{place:>6} {what} ({_why(run)}) job {job} {item.identity} {item.nodeid}")


def _why(run: PlannedRun) -> str:
    return f"already {run.state}" if run.state == "scored" else run.state
