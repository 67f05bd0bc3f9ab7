"""Eval files become pytest items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pytest_siren.evaluation.components import UnknownComponentError
from pytest_siren.session.items import RunItem
from pytest_siren.session.job import Job, Workshop
from pytest_siren.session.options import names
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
        shown = _shown(self.path, self.config.rootpath)
        try:
            specs = load_jobs(self.path, shown, workshop.registry, selection(self.config))
        except SpecError as error:
            raise self.CollectError(str(error)) from None
        seen: dict[str, Job] = {}
        for spec in specs:
            for warning in spec.warnings:
                self.warn(SirenWarning(f"{shown}: {warning}"))
            yield from self._items(self._job(workshop, spec, shown), seen)

    def _job(self, workshop: Workshop, spec: JobSpec, shown: Path) -> Job:
        try:
            return workshop.job(spec)
        except (ValueError, LookupError, ImportError, OSError, UnknownComponentError) as error:
            raise self.CollectError(f"{shown}: {error}") from None

    def _items(self, job: Job, seen: dict[str, Job]) -> Iterator[RunItem]:
        for tag in job.spec.tags:
            self.config.addinivalue_line("markers", f"{tag}: tag of {self.name}")
        marks = [getattr(pytest.mark, tag) for tag in job.spec.tags]
        try:
            chosen = list(runs(job))
        except ValueError as error:
            raise self.CollectError(f"{_shown(self.path, self.config.rootpath)}: {error}") from None
        for benign, malicious, run_index in chosen:
            item = RunItem.of(self, job, benign, malicious, run_index)
            if item.name in seen:
                raise self.CollectError(
                    f"{_shown(self.path, self.config.rootpath)}: two runs have the id {item.name}; "
                    "give their attacks or tasks different names"
                )
            seen[item.name] = job
            _mark(item, marks)
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


def _mark(item: RunItem, marks: Iterable[pytest.MarkDecorator]) -> None:
    for mark in marks:
        item.add_marker(mark)


def _shown(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
