"""The identity of the only job of an eval file, found before anything is collected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.session.job import Workshop
from pytest_siren.spec.jobs import load_jobs
from pytest_siren.spec.selection import Selection


def identity_of(config: pytest.Config, path: Path, place: Path) -> str:
    """Return the identity of the job that ``path`` makes; ``place`` is its name in messages.

    Raises ``SpecError`` for what is wrong with the file, and what its parts raise.
    """
    registry = Registry()
    config.hook.pytest_siren_components_register.call_historic(kwargs={"registry": registry})
    [spec] = load_jobs(path, place, registry, Selection())
    return Workshop(registry).job(spec).identity
