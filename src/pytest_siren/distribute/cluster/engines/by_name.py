"""Finds the engine that ``--slurm`` or ``--siren-executor`` asks for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.text.words import listed, suggestion

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.engines.base import Engine


def engine_named(name: str, folder: Path) -> Engine:
    """Return the engine ``name``, whose files are in ``folder``.

    It may be asked for elements that another process has submitted with the same folder. Raises
    ``pytest.UsageError`` for a name that nothing has.
    """
    folder = folder.absolute()
    match name:
        case "slurm":
            from pytest_siren.distribute.cluster.engines.slurm import SlurmEngine

            return SlurmEngine(folder)
        case "local":
            from pytest_siren.distribute.cluster.engines.local import LocalEngine

            return LocalEngine(folder)
        case "debug":
            from pytest_siren.distribute.cluster.engines.in_process import DebugEngine

            return DebugEngine(folder)
    if name.partition(":")[0] == "dask":
        return _dask(name, folder)
    from submitit.core.plugins import get_executors

    from pytest_siren.distribute.cluster.engines.in_process import PluginEngine

    known = [*get_executors(), "dask"]
    if name not in known:
        raise pytest.UsageError(
            f"--siren-executor: unknown executor {name!r}{suggestion(name, known)}; known are "
            f"{listed(known)}"
        )
    return PluginEngine(folder, name)


def _dask(name: str, folder: Path) -> Engine:
    """Return the engine for Dask; ``name`` may have the address of a scheduler after a colon."""
    if find_spec("distributed") is None:
        raise pytest.UsageError(
            f"--siren-executor {name}: Dask is not installed: pip install 'pytest-siren[dask]'"
        )
    if name.endswith(":"):
        raise pytest.UsageError(
            f"--siren-executor {name}: the address of the scheduler is missing, such as "
            "dask:tcp://10.0.0.1:8786"
        )
    from pytest_siren.distribute.cluster.engines.by_dask import DaskEngine

    return DaskEngine(folder, name)
