"""What one session knows of itself; the same on the controller and on every worker."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.invocation import Invocation
from pytest_siren.session.options import chosen_jobs_dir
from pytest_siren.session.resume import Resume, resumed

if TYPE_CHECKING:
    from pytest_siren.jobs.history import History
    from pytest_siren.session.runner import Evaluations


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

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.started_at, UTC)

    @property
    def sweep(self) -> str:
        """Name of the sweep that its jobs belong to."""
        known = self.resume.sweep if self.resume else None
        return known or self.started.strftime("%Y-%m-%d_%H-%M-%S")


SESSION = pytest.StashKey[SessionInfo]()
HISTORIES: pytest.StashKey[dict[str, History]] = pytest.StashKey()
"""What is recorded of the jobs that are gone on with, where this process has read it already."""
NOT_NEEDED = pytest.StashKey[int]()
"""Runs that were left out because everything was settled, or their tasks decided, without them."""
EARLY = pytest.StashKey[tuple[dict[str, list[str]], list[str]]]()
"""Identity of each job whose tasks may end early to the measures that decide them, and why tasks of
other jobs may not; only with ``--gate-stop``."""
DECIDED = pytest.StashKey[dict[str, str]]()
"""At the end: identity of each job whose tasks may have ended early, now or before, to the measures
that decided them, as ``metrics/runs.py`` has them."""
NOT_NEEDED_LINES = pytest.StashKey[list[str]]()
"""What a reader of the session's table must know of runs that were left out."""
EVALUATIONS: pytest.StashKey[Evaluations] = pytest.StashKey()


def decide(config: pytest.Config) -> SessionInfo:
    """Return this session's facts: new on a controller, the controller's on a worker.

    Raises ``pytest.UsageError`` for what cannot be gone on with.
    """
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        values = workerinput["siren_session"]
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
    )


def for_worker(info: SessionInfo, dist: str, worker: str) -> dict[str, Any]:
    """Return ``info`` in the form that crosses to the ``worker`` of that name.

    With ``--dist each`` every worker executes all runs, and records them in jobs of its own.
    """
    records_id = f"{info.id}-{worker}" if dist == "each" else info.id
    return {**asdict(info), "records_id": records_id}


def worker_name(config: pytest.Config) -> str | None:
    """Return the name of this xdist worker; ``None`` in every other process."""
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    return None if workerinput is None else str(workerinput["workerid"])


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is an xdist worker."""
    return hasattr(config, "workerinput")
