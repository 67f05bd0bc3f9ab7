"""Which runs a measure may count where tasks ended early (``metrics/deciding.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.metrics.deciding import Question

if TYPE_CHECKING:
    from pytest_siren.metrics.measures import Measure

Mask = npt.NDArray[np.bool_]


def ended_early(runs: pd.DataFrame) -> Mask:
    """Tell of each run whether tasks of its job may have ended early."""
    mask: Mask = runs["decided"].cat.codes.to_numpy() >= 0
    return mask


def decided_by(runs: pd.DataFrame, measure: Measure) -> Mask:
    """Tell of each run whether tasks of its job may have ended early by ``measure``."""
    if measure.k == 1:
        return np.zeros(len(runs), dtype=bool)
    column: Any = runs["decided"].cat
    name = str(Question(measure.stem == "attack_pass", measure.all_of, measure.k))
    # The code -1 of a missing value reads the last place.
    among = [name in str(names).split() for names in column.categories] + [False]
    mask: Mask = np.asarray(among, dtype=bool)[column.codes.to_numpy()]
    return mask


def fair(runs: pd.DataFrame, measure: Measure) -> Mask:
    """Tell of each run whether ``measure`` may count it.

    Where tasks ended early by ``measure`` itself, their first k runs are; where they did so by
    others, only the first one, for whether there is a next depends on what came before.
    """
    early = ended_early(runs)
    if not early.any():
        return ~early
    most = np.where(decided_by(runs, measure), measure.k, 1)
    return ~early | (runs["run_index"].to_numpy() < most)
