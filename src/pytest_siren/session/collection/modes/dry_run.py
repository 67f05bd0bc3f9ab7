"""``--run-mode dry-run``: which runs a session would execute, and what they are likely to use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from pytest_siren.jobs.estimates import Configured, EarlierRuns, Estimate
from pytest_siren.jobs.writing.write import writers
from pytest_siren.metrics.rates.choices import dollars
from pytest_siren.session.collection.modes.base import LONGEST_NAME, Mode, jobs_of, title
from pytest_siren.session.collection.modes.states import PlannedRun, States, counted
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.items.job import Job, RunItem, task_id
from pytest_siren.text.words import printable, shown

_MOST = 5
"""Problems that are named one by one."""


class DryRun(Mode):
    """Shows each job with its state, and every run that would be executed."""

    def act(self, runs: Sequence[RunItem]) -> None:
        """Show the jobs one after the other."""
        states = States(self.config)
        planned: dict[int, list[PlannedRun]] = {}
        for run in states.all(runs):
            planned.setdefault(id(run.item.job), []).append(run)
        jobs = jobs_of(run.item for found in planned.values() for run in found)
        estimates = Estimates(self.config, jobs)
        for job in jobs:
            self._show(job, planned[id(job)], states.folder(job), estimates)
        total = sum(run.executes for found in planned.values() for run in found)
        self._show_problems(estimates.problems)
        self.say(
            f"dry run: {total:,} of {sum(map(len, planned.values())):,} runs of {len(jobs):,} "
            "jobs would be executed; nothing was executed or written",
            bold=True,
        )

    def _show(
        self, job: Job, runs: Sequence[PlannedRun], folder: Path | None, estimates: Estimates
    ) -> None:
        self.say(title(job), bold=True)
        where = "a new job" if folder is None else f"job {self._path(folder)}"
        self.say(f"  identity {job.identity}, {where}")
        if folder is not None and folder.is_dir():
            for writer in writers(folder):
                self.say(f"  process {writer.session} is executing runs of it now", yellow=True)
        self.say(f"  {len(runs):,} runs: {counted(runs)}")
        left = [run for run in runs if run.executes]
        if not left:
            self.say("  nothing would be executed")
            return
        estimate = estimates.of(job, (run.item for run in left))
        self.say(f"  would execute {len(left):,} runs: {worded(estimate)}")
        if self.config.get_verbosity() >= 0:
            for run in left:
                self.say(f"    {run.item.identity} {run.state}: {run.item.nodeid}")

    def _show_problems(self, problems: Sequence[str]) -> None:
        for problem in problems[:_MOST]:
            line = f"not in the estimates: {printable(problem, 2 * LONGEST_NAME)}"
            self.say(line, yellow=True)
        if (more := len(problems) - _MOST) > 0:
            self.say(f"{more:,} more such problems", yellow=True)

    def _path(self, folder: Path) -> str:
        return printable(str(shown(folder, self.config.rootpath)), LONGEST_NAME)


class Estimates:
    """Reads the recorded jobs that lie where those of ``jobs`` go, and estimates by them."""

    def __init__(self, config: pytest.Config, jobs: Sequence[Job]) -> None:
        folders = dict.fromkeys(_folders(config, jobs))
        self._earlier = EarlierRuns.read(folders, map(_configured, jobs))

    @property
    def problems(self) -> Sequence[str]:
        """What could not be read, on one line each."""
        return self._earlier.problems

    def of(self, job: Job, runs: Iterable[RunItem]) -> Estimate:
        """Return what ``runs``, which are of ``job``, are likely to use."""
        tasks = (task_id(run.benign, run.malicious) for run in runs)
        return self._earlier.estimate(_configured(job), tasks)


def worded(estimate: Estimate) -> str:
    """Return ``estimate`` in words."""
    if estimate.unknown == estimate.runs:
        return "no earlier runs to estimate tokens and cost by"
    cost = "cost unknown" if estimate.cost is None else dollars(estimate.cost)
    text = (
        f"about {estimate.input_tokens:,.0f} input and {estimate.output_tokens:,.0f} output "
        f"tokens, {cost} (by {estimate.earlier:,} earlier runs"
    )
    if estimate.of_other_tasks:
        text += f"; {estimate.of_other_tasks:,} runs are of tasks without any: mean of the others"
    return f"{text})"


def _configured(job: Job) -> Configured:
    return Configured(job.dataset.name, job.spec.agent_name, job.model.label, job.attack_name)


def _folders(config: pytest.Config, jobs: Iterable[Job]) -> Iterable[Path]:
    session = config.stash[SESSION]
    for job in jobs:
        chosen = session.jobs_dir or job.spec.snapshot["output"]["jobs_dir"]
        yield config.rootpath / chosen
        if session.resume is not None and job.identity in session.resume.jobs:
            yield Path(session.resume.jobs[job.identity]).parent
