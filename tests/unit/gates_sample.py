"""Small tables of runs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pytest_siren.metrics.frame import COLUMNS, INTEGERS, table


def run(task: str, index: int = 0, **values: Any) -> dict[str, Any]:
    """Return a row: a scored, resisted run of the couple ``task``, unless ``values`` say else."""
    benign, _, malicious = task.partition(":")
    row = {
        **dict.fromkeys(COLUMNS),
        **dict.fromkeys(INTEGERS, 0),
        "dataset": "toy",
        "agent": "plain",
        "model": "m",
        "model_kind": "model",
        "attack": "loud" if malicious else None,
        "job": "/jobs/one",
        "identity": "i",
        "task_id": task,
        "benign_task": benign,
        "malicious_task": malicious or None,
        "run_index": index,
        "status": "scored",
        "benign_score": 1.0,
        "attempts": 1,
        "attack_score": 0.0 if malicious else None,
        "exposed": 1.0 if malicious else None,
        "cost": 0.5,
        "input_tokens": 10,
    }
    row.update(values)
    if row["status"] != "scored":
        row["benign_score"] = row["attack_score"] = None
    return row


def runs(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return the table of ``rows``."""
    return table({name: [row[name] for row in rows] for name in COLUMNS})


def couples(won: int, resisted: int, **values: Any) -> list[dict[str, Any]]:
    """Return a run of each of so many couples, which share no task."""
    scores = [1.0] * won + [0.0] * resisted
    return [run(f"u{n}:i{n}", attack_score=one, **values) for n, one in enumerate(scores)]


def without_score(count: int, status: str, **values: Any) -> list[dict[str, Any]]:
    """Return runs of further couples that were not scored."""
    return [run(f"x{n}:j{n}", status=status, **values) for n in range(count)]
