"""Shared by unit and acceptance tests."""

from __future__ import annotations

import os
import tarfile
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hypothesis import settings

# ``make nightly`` chooses the second; the time that one example takes is no matter of either.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile("quick")

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def pytest_configure() -> None:
    """Refuse an editable install that is older than the entry points in pyproject.toml."""
    groups = tomllib.loads(_PROJECT.read_text())["project"]["entry-points"]
    declared = {(group, name, value) for group in groups for name, value in groups[group].items()}
    points = distribution("pytest-siren").entry_points
    if missing := declared - {(point.group, point.name, point.value) for point in points}:
        raise pytest.UsageError(
            f"{len(missing)} entry points of pyproject.toml are not installed: run make setup, or "
            "pip install --no-deps -e ."
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker begin with what takes long, which is mostly waiting, while others compute.

    At the end nobody has to wait for it.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


_ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "agentdojo_runs.tar.xz"


@pytest.fixture(scope="session")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with published AgentDojo transcripts, one folder per pipeline.

    The archive is not part of the project; SIREN_TRANSCRIPTS names it where it lies elsewhere.
    """
    archive = Path(os.environ.get("SIREN_TRANSCRIPTS", _ARCHIVE))
    if not archive.exists():
        pytest.skip(
            f"the published transcripts are not here ({archive.name}); set SIREN_TRANSCRIPTS"
        )
    folder = tmp_path_factory.mktemp("transcripts")
    with tarfile.open(archive) as packed:
        # Before Python 3.11.4 there are no filters.
        if hasattr(tarfile, "data_filter"):
            packed.extraction_filter = tarfile.data_filter
        packed.extractall(folder)
    return folder
