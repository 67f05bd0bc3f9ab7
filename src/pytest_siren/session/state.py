"""What one session knows of itself; the same on the controller and on every worker."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class SessionInfo:
    """Decided once, on the controller."""

    id: str
    started_at: float
    """Seconds since the epoch."""
    jobs_dir: str | None
    """Where the user wants jobs; ``None`` when neither option nor ini key says."""

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.started_at, UTC)


SESSION = pytest.StashKey[SessionInfo]()


def decide(config: pytest.Config) -> SessionInfo:
    """Return this session's facts: new on a controller, the controller's on a worker."""
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        return SessionInfo(**workerinput["siren_session"])
    option, ini = config.getoption("jobs_dir"), config.getini("siren_jobs_dir")
    jobs_dir: Path | None = None
    if option:
        jobs_dir = config.invocation_params.dir / option
    elif ini:
        jobs_dir = config.rootpath / ini
    return SessionInfo(
        id=secrets.token_hex(8),
        started_at=datetime.now(UTC).timestamp(),
        jobs_dir=str(jobs_dir) if jobs_dir else None,
    )


def for_worker(info: SessionInfo) -> dict[str, Any]:
    """Return ``info`` in the form that crosses to a worker."""
    return asdict(info)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is an xdist worker."""
    return hasattr(config, "workerinput")
