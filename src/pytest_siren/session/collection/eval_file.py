"""Why a job cannot be gone on with: its configuration is another one by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_siren.evaluation.isolation import UserInterrupt, one_line
from pytest_siren.jobs.differences import Difference, differences
from pytest_siren.jobs.reading.read import load_config
from pytest_siren.jobs.records.jsonable import plain
from pytest_siren.jobs.records.naming import check_job_name
from pytest_siren.jobs.secrets.patterns import REDACTED, of_config
from pytest_siren.jobs.secrets.redact import ENVIRONMENT, Redactor
from pytest_siren.session.collection.task_selection import runs
from pytest_siren.session.config.cost_options import max_cost
from pytest_siren.session.config.invocation import Invocation
from pytest_siren.session.config.options import default_concurrency, names
from pytest_siren.session.config.stash import EVALUATIONS, SESSION
from pytest_siren.session.execution.counts import check_priced
from pytest_siren.session.execution.gc_tuning import no_collections
from pytest_siren.session.execution.interrupts import marked_interrupts
from pytest_siren.session.gating.manifest import note_gates
from pytest_siren.session.items.job import Job, Workshop
from pytest_siren.session.items.run_item import RunItem
from pytest_siren.session.items.screen import learn, redactor, screened
from pytest_siren.session.resume.resolve import Resume
from pytest_siren.sharing.board import MOST_KEYS
from pytest_siren.spec.components import Selection
from pytest_siren.spec.errors import SpecError
from pytest_siren.spec.jobs import load_jobs
from pytest_siren.spec.jobspec import JobSpec
from pytest_siren.text.paths import shown

_MOST = 8
"""Differences that are named."""


def changed(
    place: Path, folder: Path, how: str, jobs: Sequence[Job], secrets: Redactor = ENVIRONMENT
) -> str:
    """Return the message for the job in ``folder``, which none of ``jobs`` of ``place`` is.

    Both sides are compared, and shown, without ``secrets``.
    """
    before = secrets.config(plain(load_config(folder).values))
    found: list[list[Difference]] = [
        differences(
            before, {**secrets.config(plain(job.spec.snapshot)), "sources": dict(job.sources)}
        )
        for job in jobs
    ]
    head = f"{place}: {how}: the configuration of {folder.name} has changed"
    if not found:
        return f"{head}: the file makes no job any more"
    nearest = min(found, key=len)
    lines = [f"  {difference}" for difference in nearest[:_MOST]]
    if not nearest:
        lines = [f"  a secret that its record does not hold ({REDACTED})"]
    if len(nearest) > _MOST:
        lines.append(f"  and {len(nearest) - _MOST} more")
    advice = "change it back, or start another job without --resume"
    return "\n".join([f"{head}:", *lines, f"  {advice}"])


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
