"""Tables of runs to compare."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pytest_siren.metrics.runs import COLUMNS, INTEGERS, table


def runs_of(*rows: dict[str, Any], **every: Any) -> pd.DataFrame:
    """Return the table of ``rows``; ``every`` holds for those that do not say otherwise."""
    defaults: dict[str, Any] = {
        "dataset": "d",
        "agent": "plain",
        "model": "m",
        "model_kind": "model",
        "job": "jobs/j",
        "identity": "i",
        "vectors": "",
        "status": "scored",
        "attempts": 1,
        **dict.fromkeys(set(INTEGERS) - {"attempts"}, 0),
    }
    full = []
    for row in rows:
        benign, _, malicious = row["task_id"].partition(":")
        parts = {"benign_task": benign, "malicious_task": malicious or None}
        full.append({**defaults, **parts, **every, **row})
    return table({name: [row.get(name) for row in full] for name in COLUMNS})


def couples(scores: dict[str, list[float | str | None]], **every: Any) -> pd.DataFrame:
    """Return attacked runs: task id to the attack scores of its runs.

    A text instead of a score is the status of a run that has none; ``None`` is an unknown score.
    """
    rows = []
    for task, values in scores.items():
        for index, value in enumerate(values):
            status = value if isinstance(value, str) else "scored"
            score = None if isinstance(value, str) else value
            rows.append(
                {
                    "task_id": task,
                    "run_index": index,
                    "status": status,
                    "attack_score": score,
                    "benign_score": None if score is None else 1.0 - score,
                    "error_type": "Crash" if status == "error" else None,
                }
            )
    return runs_of(*rows, **{"attack": "a", **every})
