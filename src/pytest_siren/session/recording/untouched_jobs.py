"""Jobs of models that were unavailable: nothing is left of those in which no run was tried."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_siren.session.config.stash import SESSION


def remove_untouched(config: pytest.Config, folders: Iterable[Path]) -> None:
    """Remove those of ``folders`` that this session has made and recorded nothing in.

    ``pytest --lf`` makes them anew. Without pytest's cache it could not, and they stay.
    """
    from pytest_siren.jobs.sweeps import forget_jobs
    from pytest_siren.jobs.writing.store import remove_if_untouched

    if getattr(config, "cache", None) is None:
        return
    session = config.stash[SESSION]
    before = set(session.resume.jobs.values()) if session.resume is not None else set()
    removed: dict[Path, list[str]] = {}
    for folder in folders:
        if str(folder) not in before and remove_if_untouched(folder):
            removed.setdefault(folder.parent, []).append(folder.name)
    for jobs_dir, names in removed.items():
        forget_jobs(jobs_dir, session.sweep, names)
