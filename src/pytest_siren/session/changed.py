"""Why a job cannot be gone on with: its configuration is another one by now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_siren.jobs.differences import Difference, differences
from pytest_siren.jobs.plain import plain
from pytest_siren.jobs.read import load_config
from pytest_siren.jobs.redact import ENVIRONMENT, Redactor
from pytest_siren.jobs.secret_names import REDACTED
from pytest_siren.session.job import Job

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
