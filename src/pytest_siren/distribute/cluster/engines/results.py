"""What submitit leaves in its folder: one file for the result of each element that has ended."""

from __future__ import annotations

import os
import pickle
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pytest_siren.distribute.cluster.element import ElementResult
from pytest_siren.distribute.cluster.engines.base import ElementState, ElementStatus
from pytest_siren.text.words import escaped


def log_of(folder: Path, element: str) -> Path:
    """Return the file with what the element wrote."""
    return folder / f"{element}_0_log.out"


def results_in(folder: Path) -> AbstractSet[str]:
    """Return the ids of the elements that have left a result.

    Lists the folder, which also shows what a network file system would hide for a while.
    """
    ending = "_0_result.pkl"
    with os.scandir(folder) as entries:
        return {entry.name.removesuffix(ending) for entry in entries if entry.name.endswith(ending)}


def ended_status(folder: Path, element: str) -> ElementStatus | None:
    """Return the status of an element that has left a result; ``None`` if it is not readable yet.

    A file written on another host may be seen before all of its content.
    """
    try:
        outcome: tuple[str, Any] = pickle.loads((folder / f"{element}_0_result.pkl").read_bytes())
    except (FileNotFoundError, EOFError, pickle.UnpicklingError):
        return None
    kind, result = outcome
    log = log_of(folder, element)
    if kind == "success" and isinstance(result, ElementResult):
        return of_result(result, log)
    last = str(result).strip().splitlines()[-1:]
    return ElementStatus(ElementState.ENDED, escaped("".join(last)), log, failed=True)


def of_result(result: ElementResult, log: Path | None) -> ElementStatus:
    """Return the status of an element that came to ``result``."""
    return ElementStatus(
        ElementState.ENDED,
        result.problem,
        log,
        failed=bool(result.problem),
        broken=result.broken,
    )


def lost_status(folder: Path, element: str, reason: str) -> ElementStatus:
    """Return the status of an element that has gone without a result, in the engine's words."""
    return ElementStatus(
        ElementState.ENDED,
        reason,
        log_of(folder, element),
        failed=True,
        cancelled=reason.startswith("CANCELLED"),
    )
