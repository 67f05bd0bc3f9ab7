"""The table of runs for the page's script: column by column, with names encoded as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pytest_siren.metrics.rates.measures import Measure, unbiased_runs

_NAMES = (
    *("dataset", "agent", "model", "attack", "job", "task_id", "benign_task", "malicious_task"),
    *("vectors", "status", "error_type", "stage"),
)
_NUMBERS = {"benign_score": 4, "attack_score": 4, "cost": 6, "duration": 3, "exposed": 0}
"""Columns with fractions, and the number of decimals to keep."""
_COUNTS = ("run_index", "attempts", "input_tokens", "output_tokens", "unpriced")


def columns(runs: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of ``runs`` as JSON data.

    ``later`` is present if tasks ended early; it is 1 for runs that would bias the rates.
    A column of names is ``{"names": [...], "codes": [...]}`` with the code -1 for what is missing.
    A column of numbers is an array with ``null`` for what is missing.
    """
    made: dict[str, Any] = {name: _coded(runs[name]) for name in _NAMES}
    folder, run_id = _places(runs)
    made["folder"] = _coded(folder)
    made["run_id"] = run_id
    for name in _COUNTS:
        made[name] = runs[name].tolist()
    for name, digits in _NUMBERS.items():
        values = np.round(runs[name].to_numpy(np.float64), digits)
        # A whole number is written without its ".0".
        made[name] = [
            None if not np.isfinite(value) else int(value) if value == int(value) else value
            for value in values.tolist()
        ]
    later = ~unbiased_runs(runs, Measure.of("asr"))
    if later.any():
        made["later"] = later.astype(int).tolist()
    return made


def _coded(column: pd.Series[Any]) -> dict[str, Any]:
    coded = column.astype("category").cat.remove_unused_categories()
    return {
        "names": [str(name) for name in coded.cat.categories],
        "codes": coded.cat.codes.tolist(),
    }


def _places(runs: pd.DataFrame) -> tuple[pd.Series[Any], list[str]]:
    """Split the folders of attempts into the folder of the task and the id of the attempt."""
    parts = runs["path"].astype(str).str.rpartition("/")
    return parts[0], parts[2].tolist()
