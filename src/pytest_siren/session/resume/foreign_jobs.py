"""Jobs that prompt-siren wrote, resumed as if they had been started here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.jobs.reading.prompt_siren import is_config, unnamed
from pytest_siren.jobs.reading.read import Unreadable, iter_index
from pytest_siren.jobs.records.naming import CONFIG_FILE
from pytest_siren.records import JobConfig
from pytest_siren.session.config.invocation import Invocation
from pytest_siren.session.items.job import Workshop
from pytest_siren.spec.components import Selection
from pytest_siren.spec.jobs import load_jobs
from pytest_siren.spec.jobspec import run_identity
from pytest_siren.text.words import shown


def adopted(config: pytest.Config, folder: Path, job: JobConfig, how: str) -> JobConfig:
    """Return ``job`` as if it had been started here, where prompt-siren wrote it.

    Nothing is written: that is left to the first run. Raises ``pytest.UsageError`` when its
    configuration makes no job here.
    """
    if not is_config(job.values):
        return job
    path = folder / CONFIG_FILE
    place = shown(path, config.rootpath)
    invocation = Invocation(args=(place.as_posix(),))
    try:
        identity = identity_of(config, path, place)
    except (ValueError, LookupError, ImportError, OSError) as error:
        raise pytest.UsageError(f"{how}: {error}") from None
    if others := _of_other_configurations(folder, identity):
        raise pytest.UsageError(
            f"{how}: {place} describes another configuration than that of {others:,} recorded "
            "runs, which would be executed again: another tool has rewritten it. Restore it, or "
            f"start a new job: pytest {place}"
        )
    ours = {"eval_file": place.as_posix(), "invocation": invocation.plain()}
    return replace(job, identity=identity, values={**job.values, **ours})


def _of_other_configurations(folder: Path, identity: str) -> int:
    """Return how many lines of the index are of runs of other jobs than that of ``identity``."""
    unreadable: list[Unreadable] = []
    return sum(
        one.identity != run_identity(identity, one.task_id, one.run_index)
        for one in iter_index(folder, unreadable)
        if not unnamed(one)
    )


def identity_of(config: pytest.Config, path: Path, place: Path) -> str:
    """Return the identity of the job that ``path`` makes; ``place`` is its name in messages.

    Raises ``SpecError`` for what is wrong with the file, and what its parts raise.
    """
    registry = Registry()
    config.hook.pytest_siren_components_register.call_historic(kwargs={"registry": registry})
    [spec] = load_jobs(path, place, registry, Selection())
    workshop = Workshop(registry)
    try:
        return workshop.job(spec).identity
    finally:
        workshop.close()
