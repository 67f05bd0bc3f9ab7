"""Jobs that prompt-siren wrote, resumed: their ``config.yaml`` takes the place of an eval file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.session.invocation import Invocation
from pytest_siren.session.paths import shown

if TYPE_CHECKING:
    from pytest_siren.jobs.records import JobConfig


def adopted(config: pytest.Config, folder: Path, job: JobConfig, how: str) -> JobConfig:
    """Return ``job`` as if it had been started here, where prompt-siren wrote it.

    Nothing is written: that is left to the first run. Raises ``pytest.UsageError`` when its
    configuration makes no job here.
    """
    from pytest_siren.jobs.theirs import is_config

    if not is_config(job.values):
        return job
    from pytest_siren.jobs.records import CONFIG_FILE
    from pytest_siren.session.identify import identity_of

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
    from pytest_siren.jobs.read import Unreadable, iter_index
    from pytest_siren.jobs.theirs import unnamed
    from pytest_siren.spec.identity import run_identity

    unreadable: list[Unreadable] = []
    return sum(
        one.identity != run_identity(identity, one.task_id, one.run_index)
        for one in iter_index(folder, unreadable)
        if not unnamed(one)
    )
