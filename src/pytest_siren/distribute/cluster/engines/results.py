"""What elements leave in the engine's folder when they have ended: a file with the result of each.

Names and contents are those of submitit.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pytest_siren.distribute.cluster.element import ElementResult
from pytest_siren.distribute.cluster.engines.base import ElementState, ElementStatus
from pytest_siren.text.words import escaped

_RESULT = "_0_result.pkl"


def result_of(folder: Path, element: str) -> Path:
    """Return the file with what the element came to."""
    return folder / f"{element}{_RESULT}"


def log_of(folder: Path, element: str) -> Path:
    """Return the file with what the element wrote."""
    return folder / f"{element}_0_log.out"


def results_in(folder: Path) -> AbstractSet[str]:
    """Return the ids of the elements that have left a result.

    Lists the folder, which also shows what a network file system would hide for a while.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(_RESULT)]
    return {name.removesuffix(_RESULT) for name in names}


def ended_status(folder: Path, element: str) -> ElementStatus | None:
    """Return the status of an element that has left a result; ``None`` if it is not readable yet.

    A file written on another host may be seen before all of its content.
    """
    try:
        outcome: tuple[str, Any] = pickle.loads(result_of(folder, element).read_bytes())
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
