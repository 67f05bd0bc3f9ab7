"""What one session knows of itself; the same on the controller and on every worker."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from pytest_siren.session.config.invocation import Invocation
from pytest_siren.session.config.options import chosen_jobs_dir
from pytest_siren.session.config.processes import executor_of
from pytest_siren.session.resume.resolve import Resume, resumed, set_aside


@dataclass(frozen=True)
class SessionInfo:
    """Decided once, on the controller."""

    id: str
    started_at: float
    """Seconds since the epoch."""
    jobs_dir: str | None
    """Where the user wants jobs; ``None`` when neither option nor ini key says."""
    records_id: str
    """Processes with the same one share jobs; those of ``--dist each`` have one each."""
    invocation: dict[str, Any] = field(default_factory=dict)
    """What the user asked for, as ``Invocation.plain`` gives it."""
    resume: Resume | None = None
    """What this session goes on with."""
    set_aside: str | None = None
    """How to resume the evaluations that this session leaves alone; it collects none then."""

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.started_at, UTC)

    @property
    def sweep(self) -> str:
        """Name of the sweep that its jobs belong to."""
        known = self.resume.sweep if self.resume else None
        return known or self.started.strftime("%Y-%m-%d_%H-%M-%S")


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
