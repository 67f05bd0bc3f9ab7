"""What a session would do with each of its runs, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.items.job import Job, RunItem
from pytest_siren.session.resume.item_filter import Resuming

PENDING, NOT_NEEDED = "pending", "not needed"
_FIRST = ("scored", PENDING, NOT_NEEDED, "cancelled")
"""States that are named before the types of errors."""


@dataclass(frozen=True)
class PlannedRun:
    """A run with what is recorded of it."""

    item: RunItem
    state: str
    """``scored``, ``cancelled``, ``pending``, ``not needed``, or the type of the error."""
    executes: bool
    """Whether the session would execute it."""


class States:
    """Tells the states of runs: those of the jobs that the session resumes, if it resumes any."""

    def __init__(self, config: pytest.Config) -> None:
        found = config.pluginmanager.get_plugin("siren-resuming")
        self._resuming = found if isinstance(found, Resuming) else None
        self._resume = config.stash[SESSION].resume

    def all(self, runs: Sequence[RunItem]) -> list[PlannedRun]:
        """Return ``runs`` in their order, and the collected runs that are done without them."""
        there = {id(run) for run in runs}
        done = [run for run in self._collected() if id(run) not in there]
        return [self.of(run) for run in (*runs, *done)]

    def of(self, run: RunItem) -> PlannedRun:
        """Return the state of ``run``."""
        if self._resuming is None:
            state = PENDING if run.needed else NOT_NEEDED
            return PlannedRun(run, state, executes=run.needed)
        return PlannedRun(run, self._resuming.state(run), self._resuming.executes(run))

    def folder(self, job: Job) -> Path | None:
        """Return the folder of ``job``, if the session resumes it."""
        path = self._resume.jobs.get(job.identity) if self._resume else None
        return None if path is None else Path(path)

    def _collected(self) -> Sequence[RunItem]:
        return self._resuming.runs if self._resuming is not None else ()


def counted(runs: Iterable[PlannedRun]) -> str:
    """Return how many of ``runs`` are in which state, on one line."""
    counts = Counter(run.state for run in runs)
    first = [state for state in _FIRST if counts[state]]
    others = sorted(counts.keys() - set(_FIRST))
    return ", ".join(f"{counts[state]:,} {state}" for state in (*first, *others))
