"""Eval files become pytest items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.evaluation.failures import UserInterrupt, one_line
from pytest_siren.jobs.naming import check_job_name
from pytest_siren.jobs.secret_names import of_config
from pytest_siren.session.changed import changed
from pytest_siren.session.costoptions import max_cost
from pytest_siren.session.costs import check_priced
from pytest_siren.session.garbage import no_collections
from pytest_siren.session.interrupts import marked_interrupts
from pytest_siren.session.invocation import Invocation
from pytest_siren.session.items import RunItem
from pytest_siren.session.job import Job, Workshop
from pytest_siren.session.options import default_concurrency, names
from pytest_siren.session.paths import shown
from pytest_siren.session.planned import note_gates
from pytest_siren.session.resume import Resume
from pytest_siren.session.screen import learn, redactor, screened
from pytest_siren.session.select import runs
from pytest_siren.session.state import EVALUATIONS, SESSION
from pytest_siren.sharing.board import MOST_KEYS
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobs import JobSpec, load_jobs
from pytest_siren.spec.selection import Selection


class SirenWarning(pytest.PytestWarning):
    """Something in an eval file is not as its author may believe."""


class EvalFile(pytest.File):
    """An eval file; its items are runs."""

    def collect(self) -> list[RunItem]:
        """Return the runs of every job. Problems are collection errors without a traceback."""
        with no_collections(), marked_interrupts():
            try:
                return list(self._runs())
            except (Exception, UserInterrupt):
                raise
            except BaseException as error:
                # pytest would skip the file, or end the session with whatever exit code.
                place = shown(self.path, self.config.rootpath)
                raise self.CollectError(f"{place}: {one_line(error)}") from error

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what cannot be collected, without secrets."""
        found = super().repr_failure(excinfo)
        return screened(found, redactor(self.config)) if isinstance(found, str) else found

    def _runs(self) -> Iterator[RunItem]:
        workshop = self.config.stash[EVALUATIONS].workshop
        place = shown(self.path, self.config.rootpath)
        resume = self.config.stash[SESSION].resume
        if resume is not None and resume.only:
            jobs = self._resumed(workshop, place, resume)
        else:
            jobs = self._jobs(workshop, place, selection(self.config))
        seen: set[str] = set()
        for job in jobs:
            yield from self._items(job, seen, place)

    def _jobs(self, workshop: Workshop, place: Path, chosen: Selection) -> list[Job]:
        try:
            specs = load_jobs(self.path, place, workshop.registry, chosen)
        except SpecError as error:
            raise self.CollectError(str(error)) from None
        for spec in specs:
            learn(self.config, of_config(spec.snapshot))
        for warning in (warning for spec in specs for warning in spec.warnings):
            text = screened(f"{place}: {warning}", redactor(self.config))
            self.warn(SirenWarning(text))
        self._check_names(specs, place)
        jobs = [self._job(workshop, spec, place) for spec in specs]
        if len(workshop.models()) > MOST_KEYS:
            raise self.CollectError(
                f"{place}: more than {MOST_KEYS:,} models in one session; "
                "choose fewer with --model, or split the sweep"
            )
        specs.clear()  # with what the datasets have been built from
        return jobs

    def _check_names(self, specs: Iterable[JobSpec], place: Path) -> None:
        """Raise a collection error for a name in the file that no folder of a job can have."""
        for spec in specs:
            if name := spec.snapshot["output"]["job_name"]:
                try:
                    check_job_name(name)
                except ValueError as error:
                    raise self.CollectError(f"{place}: output.job_name: {error}") from None

    def _resumed(self, workshop: Workshop, place: Path, resume: Resume) -> list[Job]:
        """Return the jobs of this file that are gone on with, each as it was asked for."""
        found: list[Job] = []
        made: dict[Invocation, list[Job]] = {}
        for identity, values in resume.of_file(place.as_posix()).items():
            invocation = Invocation.from_plain(values)
            if invocation not in made:
                chosen = selection(self.config, invocation)
                made[invocation] = self._jobs(workshop, place, chosen)
            same = [job for job in made[invocation] if job.identity == identity]
            if not same:
                folder = Path(resume.jobs[identity])
                raise self.CollectError(
                    changed(place, folder, resume.how, made[invocation], redactor(self.config))
                )
            found += same[:1]
        return found

    def _job(self, workshop: Workshop, spec: JobSpec, place: Path) -> Job:
        try:
            job = workshop.job(spec)
            check_priced([job], workshop.prices, max_cost(self.config), self.config.rootpath)
            return job
        except (ValueError, LookupError, ImportError, OSError) as error:
            raise self.CollectError(f"{place}: {error}") from None
        except UserInterrupt:
            raise
        except BaseException as error:
            # The code of a component; ``--fulltrace`` shows where.
            raise self.CollectError(f"{place}: {one_line(error)}") from error

    def _items(self, job: Job, seen: set[str], place: Path) -> Iterator[RunItem]:
        for tag in job.spec.tags:
            self.config.addinivalue_line("markers", f"{tag}: tag of {self.name}")
        marks = [getattr(pytest.mark, tag) for tag in job.spec.tags]
        asked = self.config.pluginmanager.get_plugin("siren-task-ids")
        try:
            chosen = list(runs(job, asked))
        except ValueError as error:
            raise self.CollectError(f"{place}: {error}") from None
        if chosen or asked is None:
            note_gates(self.config, job, place.as_posix(), len(chosen))
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


def selection(config: pytest.Config, invocation: Invocation | None = None) -> Selection:
    """Return what the command line asks for, or what an earlier one did: ``invocation``."""
    asked = invocation or Invocation.of(config)
    return Selection(
        attacks=names(asked.attack),
        benign=asked.benign,
        models=names(asked.model),
        agents=names(asked.agent),
        runs=asked.runs,
        task_ids=names(asked.task_ids),
        sets=asked.set,
        concurrency=config.getoption("siren_concurrency"),
        default_concurrency=default_concurrency(config),
    )
