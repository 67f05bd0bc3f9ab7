"""Records every attempt as JSON in the folder of its job."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.jobs.reading.history import Past
from pytest_siren.jobs.records.naming import job_name
from pytest_siren.jobs.records.schema import CONFIG_FILE, Result
from pytest_siren.jobs.writing.config_update import amend
from pytest_siren.jobs.writing.repair import finished_attempt
from pytest_siren.jobs.writing.store import JobStore, Transcripts
from pytest_siren.jobs.writing.writer_markers import mark
from pytest_siren.payloads import JobInfo, RunAttempt, RunInfo
from pytest_siren.session.config.stash import EARLY, HISTORIES, SESSION, worker_name
from pytest_siren.session.items.job import Job
from pytest_siren.session.items.screen import redactor
from pytest_siren.session.recording.batch_writer import RecordingError, Writer
from pytest_siren.session.recording.shared_folder import spare_jobs
from pytest_siren.session.resume.previous_attempts import PastRuns

if TYPE_CHECKING:
    from pytest_siren.session.items.run_item import RunItem

DEFAULT_JOBS_DIR = "jobs"
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(eq=False)
class JsonRecorder:
    """Opens the folders of jobs when their first run begins, and writes attempts into them."""

    config: pytest.Config
    _writer: Writer
    _stores: dict[Path, JobStore] = field(default_factory=dict)
    _infos: dict[int, JobInfo] = field(default_factory=dict)
    _planned: Counter[int] = field(default_factory=Counter)
    _marks: list[Path] = field(default_factory=list)
    past_runs: PastRuns = field(init=False)

    def __post_init__(self) -> None:
        known = self.config.stash.get(HISTORIES, {})
        self.past_runs = PastRuns(self.config.stash[SESSION].resume, known)

    def begin(self, items: Iterable[RunItem]) -> dict[str, str]:
        """Make or join the folders of the jobs of ``items``, before anything runs.

        Returns the identity and the folder of each. Raises as ``job`` does.
        """
        jobs: dict[int, Job] = {}
        for item in items:
            jobs.setdefault(id(item.job), item.job)
            self._planned[id(item.job)] += 1
        return {job.identity: str(self.job(job).path) for job in jobs.values()}

    def past(self, run: RunInfo) -> Past:
        """Return the attempts at ``run`` that earlier sessions recorded."""
        return self.past_runs.of(run.job.identity, run.identity)

    def job(self, job: Job) -> JobInfo:
        """Return the facts of ``job``, its folder made. Raises ``JobExistsError``, ``OSError``."""
        if id(job) not in self._infos:
            store = self._resumed(job) or self._open(job)
            self._stores[store.path] = store
            self._marks.append(mark(store.path, self._session_process()))
            self._infos[id(job)] = JobInfo(
                name=store.name,
                path=store.path,
                dataset=job.dataset.name,
                agent=job.spec.agent.type,
                model=job.model.label,
                model_kind=job.model.kind.value,
                attack=job.attack_name,
                identity=job.identity,
                suite=job.dataset.suite,
            )
        return self._infos[id(job)]

    def folder(self, job: Job) -> Path | None:
        """Return the folder of ``job``; ``None`` while there is none."""
        info = self._infos.get(id(job))
        return info.path if info else None

    def folders(self) -> list[Path]:
        """Return the folders of all jobs of this process."""
        return [info.path for info in self._infos.values()]

    def record(self, attempt: RunAttempt) -> Awaitable[object]:
        """Write the attempt's records, and leave the waiting for the disk to a thread.

        It is not called as a hook: no plugin may keep an attempt from being recorded. Raises
        ``RecordingError``, which the awaitable does too.
        """
        store = self._stores[attempt.run.job.path]
        try:
            recorded = store.put(attempt)
        except OSError as error:
            self._writer.failed = True
            raise RecordingError(store.path, error) from error
        return self._writer.settle(store, recorded)

    def finished(self, run: RunInfo) -> Result | None:
        """Return the attempt at ``run`` that came to an end in this session, if there is one."""
        before = {entry.run_id for entry in self.past(run).entries}
        return finished_attempt(run.job.path, run.task_id, run.job.attack, run.identity, before)

    def hand_over(self) -> None:
        """Let what is written reach the disk now, whatever the event loop does next."""
        self._writer.hand_over()

    def close(self) -> None:
        """Wait until everything is written."""
        self._writer.close()
        if not self._writer.failed:
            for path in self._marks:
                path.unlink(missing_ok=True)
        self._marks.clear()

    def _session_process(self) -> int:
        """Return the process that the session was started with."""
        # A worker is a child of the controller, unless it runs on another machine.
        return os.getppid() if worker_name(self.config) else os.getpid()

    def _resumed(self, job: Job) -> JobStore | None:
        """Return the store of the job that is gone on with; ``None`` for a new one."""
        resume = self.config.stash[SESSION].resume
        path = resume.jobs.get(job.identity) if resume else None
        if resume is None or path is None or not (Path(path) / CONFIG_FILE).exists():
            return None
        secrets = redactor(self.config)
        store = JobStore(Path(path), transcripts=transcripts(self.config), redactor=secrets)
        if worker_name(self.config) in (None, "gw0"):
            amend(store.path, self._facts(job), resume.override, secrets)
        return store

    def _facts(self, job: Job) -> dict[str, object]:
        """Return what ``config.yaml`` says of the job beside prompt-siren's keys."""
        session = self.config.stash[SESSION]
        decided = self.config.stash.get(EARLY, ({}, []))[0].get(job.identity)
        return {
            **job.spec.snapshot,
            **({"decided": decided} if decided else {}),
            "identity": job.identity,
            "sources": dict(job.sources),
            "dataset_name": job.dataset.name,
            "dataset_suite": job.dataset.suite,
            "model_label": job.model.label,
            "model_kind": job.model.kind.value,
            "sweep_id": session.sweep,
            "planned_runs": self._planned[id(job)],
            "invocation": session.invocation,
        }

    def _open(self, job: Job) -> JobStore:
        in_file = job.spec.snapshot["output"]["jobs_dir"]
        chosen = self.config.stash[SESSION].jobs_dir or in_file
        folder = self.config.rootpath / chosen
        try:
            return self._create(folder, job)
        except OSError as error:
            if chosen != DEFAULT_JOBS_DIR or os.path.lexists(folder) or error.errno not in _DENIED:
                raise
            # Nobody chose the folder, and it is not there: a read-only checkout loses no run.
            spare = spare_jobs(self.config.stash[SESSION].id)
            store = self._create(spare, job)
            job_warning = f"{folder} cannot be written ({error.strerror}); jobs go to {spare}"
            self.config.issue_config_time_warning(pytest.PytestWarning(job_warning), stacklevel=2)
            return store

    def _create(self, folder: Path, job: Job) -> JobStore:
        session = self.config.stash[SESSION]
        named = self.config.getoption("siren_job_name")
        named = named or job.spec.snapshot["output"]["job_name"]
        generated = job_name(
            job.dataset.name,
            job.spec.agent.type,
            job.model.label,
            job.attack_name,
            session.started,
            job.spec.cell,
        )
        return JobStore.open(
            folder,
            named or generated,
            session.records_id,
            self._facts(job),
            exclusive=bool(named),
            created_at=session.started,
            transcripts=transcripts(self.config),
            redactor=redactor(self.config),
        )


def transcripts(config: pytest.Config) -> Transcripts:
    """Return which transcripts the options want."""
    option = config.getoption
    return Transcripts(option("siren_transcripts") or "full", bool(option("siren_compress")))
