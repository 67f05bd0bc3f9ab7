"""Eval files become pytest items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_siren.session.items import RunItem
from pytest_siren.session.job import Job, Workshop
from pytest_siren.session.options import names
from pytest_siren.session.paths import shown
from pytest_siren.session.runner import EVALUATIONS
from pytest_siren.session.select import runs
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobs import JobSpec, load_jobs
from pytest_siren.spec.selection import Selection


class SirenWarning(pytest.PytestWarning):
    """Something in an eval file is not as its author may believe."""


class EvalFile(pytest.File):
    """An eval file; its items are runs."""

    def collect(self) -> Iterator[RunItem]:
        """Yield the runs of every job. Problems are collection errors without a traceback."""
        workshop = self.config.stash[EVALUATIONS].workshop
        place = shown(self.path, self.config.rootpath)
        try:
            specs = load_jobs(self.path, place, workshop.registry, selection(self.config))
        except SpecError as error:
            raise self.CollectError(str(error)) from None
        seen: set[str] = set()
        for spec in specs:
            for warning in spec.warnings:
                self.warn(SirenWarning(f"{place}: {warning}"))
            yield from self._items(self._job(workshop, spec, place), seen, place)

    def _job(self, workshop: Workshop, spec: JobSpec, place: Path) -> Job:
        try:
            return workshop.job(spec)
        except (ValueError, LookupError, ImportError, OSError) as error:
            raise self.CollectError(f"{place}: {error}") from None

    def _items(self, job: Job, seen: set[str], place: Path) -> Iterator[RunItem]:
        for tag in job.spec.tags:
            self.config.addinivalue_line("markers", f"{tag}: tag of {self.name}")
        marks = [getattr(pytest.mark, tag) for tag in job.spec.tags]
        try:
            chosen = list(runs(job))
        except ValueError as error:
            raise self.CollectError(f"{place}: {error}") from None
        for benign, malicious, run_index in chosen:
            item = RunItem.of(self, job, benign, malicious, run_index)
            if item.name in seen:
                raise self.CollectError(
                    f"{place}: two runs have the id {item.name}; "
                    "give their attacks or tasks different names"
                )
            seen.add(item.name)
            for mark in marks:
                item.add_marker(mark)
            yield item


def selection(config: pytest.Config) -> Selection:
    """Return what the command line asks for."""
    return Selection(
        attacks=names(config.getoption("attack")),
        benign=config.getoption("benign"),
        models=names(config.getoption("model")),
        agents=names(config.getoption("agent")),
        runs=config.getoption("runs"),
        task_ids=names(config.getoption("task_ids")),
        sets=tuple(config.getoption("siren_set")),
        concurrency=config.getoption("concurrency"),
    )
