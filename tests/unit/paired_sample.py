"""Tables of runs to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.jobs.writing.store import JobStore
from pytest_siren.jobs.writing.write import append
from pytest_siren.metrics.frame import COLUMNS, INTEGERS, table
from pytest_siren.records import IndexEntry
from tests.unit.jobs_sample import CREATED


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


def a_job(
    folder: Path,
    name: str,
    scores: dict[str, list[float | str]],
    *,
    attack: str | None = "direct",
    planned: int | None = None,
    **config: Any,
) -> Path:
    """Write a job whose index holds ``scores``, those of the attack or, without one, utility."""
    values = {
        "agent": {"type": "plain", "config": {"model": "test"}},
        "dataset": {"type": "inline", "config": {"name": "mail"}},
        "attack": attack and {"type": "template_string", "config": {}},
        "attack_name": attack,
        "identity": f"identity of {name}",
        "planned_runs": planned or sum(map(len, scores.values())),
        **config,
    }
    store = JobStore.open(folder, name, name, values, created_at=CREATED)
    entries = []
    for task, values_of_task in scores.items():
        for index, value in enumerate(values_of_task):
            score = None if isinstance(value, str) else value
            number = len(entries)
            entries.append(
                IndexEntry(
                    task_id=task,
                    run_id=f"{number:08x}",
                    timestamp=CREATED,
                    benign_score=score if attack is None or score is None else 1.0 - score,
                    attack_score=None if attack is None else score,
                    exception_type="Crash" if value == "error" else None,
                    path=f"task/{number:08x}",
                    status=value if isinstance(value, str) else "scored",
                    run_index=index,
                    attempt=1,
                    identity=f"{number:016x}",
                    duration=1.5,
                    input_tokens=100,
                    output_tokens=10,
                    cost=0.25,
                    attack_outcome=None,
                    nodeid="",
                )
            )
    append(store.path / "index.jsonl", [vars(entry) for entry in entries])
    return store.path
