"""Notes down what a session is about to do, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_siren.session.config.processes import executor_of
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.items.report import redactor
from pytest_siren.session.resume.last_session import CACHE_KEY


def remember(config: pytest.Config, jobs: Mapping[str, str]) -> None:
    """Write the sweep's file and the note in pytest's cache that ``--lf`` looks for.

    ``jobs`` are identities of configurations and the paths of their folders. To be called on the
    controller. What cannot be written becomes a warning.
    """
    session = config.stash[SESSION]
    resume = session.resume
    if resume is None or resume.sweep is not None:
        _write_sweeps(config, jobs)
    cache = getattr(config, "cache", None)
    if cache is not None:
        root = config.rootpath
        if resume is not None:
            jobs = {**resume.jobs, **jobs}
        asked = (resume and resume.kept) or session.invocation
        record = {
            "sweep": session.sweep,
            "jobs": {one: os.path.relpath(path, root) for one, path in jobs.items()},
            "jobs_dir": session.jobs_dir and os.path.relpath(session.jobs_dir, root),
            "invocation": redactor(config).config({"invocation": asked})["invocation"],
            "target": resume.target if resume else None,
            "latest": True,
        }
        cache.set(CACHE_KEY, record)


def _write_sweeps(config: pytest.Config, jobs: Mapping[str, str]) -> None:
    from pytest_siren.jobs.sweeps import Sweep, write_sweep

    session = config.stash[SESSION]
    folders: dict[Path, dict[str, str]] = {}
    for identity, path in jobs.items():
        folders.setdefault(Path(path).parent, {})[identity] = Path(path).name
    launcher = executor_of(config).launcher
    for folder, identities in folders.items():
        sweep = Sweep(session.sweep, tuple(identities.values()), identities)
        try:
            write_sweep(folder, sweep, launcher)
        except (OSError, ValueError) as error:
            warning = f"the sweep {session.sweep} cannot be written: {error}"
            config.issue_config_time_warning(pytest.PytestWarning(warning), stacklevel=2)


def how_to_go_on(config: pytest.Config) -> str:
    """Return the command that executes what is left."""
    if getattr(config, "cache", None) is not None:
        return "pytest --lf"
    return f"pytest --resume {config.stash[SESSION].sweep}"
