"""Decides what a session is, the same on the controller and on every worker."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from pytest_siren.session.config.invocation import Invocation, Resume, SessionInfo
from pytest_siren.session.config.options import chosen_jobs_dir
from pytest_siren.session.config.processes import executor_of
from pytest_siren.session.resume.resolve import resumed, set_aside


def decide(config: pytest.Config) -> SessionInfo:
    """Return this session's facts: new on a controller, the controller's on a worker.

    Raises ``pytest.UsageError`` for what cannot be gone on with.
    """
    values = executor_of(config).decided
    if values is not None:
        resume = values["resume"] and Resume(**values["resume"])
        if resume is not None:
            # A worker is started with the controller's command line, not with what came of it.
            asked = Invocation.from_plain(values["invocation"])
            asked.restore(config, with_args=True, with_filters=True)
        return SessionInfo(**{**values, "resume": resume})
    resume = resumed(config)
    jobs_dir = chosen_jobs_dir(config)
    if jobs_dir is None and resume is not None and resume.jobs_dir:
        jobs_dir = config.rootpath / resume.jobs_dir
    session_id = secrets.token_hex(8)
    return SessionInfo(
        id=session_id,
        records_id=session_id,
        started_at=datetime.now(UTC).timestamp(),
        jobs_dir=str(jobs_dir) if jobs_dir else None,
        invocation=Invocation.of(config).plain(),
        resume=resume,
        set_aside=set_aside(config),
    )


def for_process(info: SessionInfo, name: str, *, own_jobs: bool) -> dict[str, Any]:
    """Return ``info`` in the form that crosses to the process of that ``name``.

    With ``own_jobs`` it records in jobs of its own.
    """
    records_id = f"{info.id}-{name}" if own_jobs else info.id
    return {**asdict(info), "records_id": records_id}
