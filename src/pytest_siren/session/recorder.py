"""Records every attempt as JSON in the folder of its job."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_siren.hookspecs import JobInfo, RunAttempt
from pytest_siren.jobs.naming import job_name
from pytest_siren.jobs.store import JobStore
from pytest_siren.session.job import Job
from pytest_siren.session.state import SESSION

DEFAULT_JOBS_DIR = "jobs"


@dataclass(eq=False)
class JsonRecorder:
    """Opens the folders of jobs when their first run begins, and writes attempts into them."""

    config: pytest.Config
    _stores: dict[Path, JobStore] = field(default_factory=dict)
    _infos: dict[int, JobInfo] = field(default_factory=dict)

    def job(self, job: Job) -> JobInfo:
        """Return the facts of ``job``, its folder made. Raises ``JobExistsError``, ``OSError``."""
        if id(job) not in self._infos:
            store = self._open(job)
            self._stores[store.path] = store
            self._infos[id(job)] = JobInfo(
                name=store.name,
                path=store.path,
                dataset=job.dataset.name,
                agent=job.spec.agent.type,
                model=job.model.label,
                model_kind=job.model.kind.value,
                attack=job.attack_name,
                identity=job.identity,
            )
        return self._infos[id(job)]

    def pytest_siren_attempt_record(self, attempt: RunAttempt) -> None:
        """Write the attempt's records."""
        self._stores[attempt.run.job.path].record(attempt)

    def _open(self, job: Job) -> JobStore:
        in_file = job.spec.snapshot["output"]["jobs_dir"]
        chosen = self.config.stash[SESSION].jobs_dir or in_file
        folder = self.config.rootpath / chosen
        try:
            return self._create(folder, job)
        except OSError as error:
            if chosen != DEFAULT_JOBS_DIR:
                raise
            # Evaluations are paid for: a root folder that cannot be written must not cost them.
            spare = Path(tempfile.gettempdir()) / f"pytest-siren-{os.getuid()}" / "jobs"
            store = self._create(spare, job)
            job_warning = f"{folder} cannot be written ({error.strerror}); jobs go to {spare}"
            self.config.issue_config_time_warning(pytest.PytestWarning(job_warning), stacklevel=2)
            return store

    def _create(self, folder: Path, job: Job) -> JobStore:
        session = self.config.stash[SESSION]
        named = self.config.getoption("job_name")
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
            session.id,
            {**job.spec.snapshot, "identity": job.identity},
            exclusive=bool(named),
            created_at=session.started,
        )
