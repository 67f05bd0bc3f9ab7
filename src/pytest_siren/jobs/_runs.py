"""Stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.jobs.history import History
from pytest_siren.jobs.naming import task_parts
from pytest_siren.jobs.read import Unreadable, iter_index, load_config, load_result
from pytest_siren.metrics.runs import COLUMNS, table


@dataclass(frozen=True)
class ReadRuns:
    runs: pd.DataFrame
    problems: list[str]
    planned: dict[str, int]


def read_runs(jobs: Sequence[Path]) -> ReadRuns:
    rows: list[dict[str, Any]] = []
    bad: list[Unreadable] = []
    planned: dict[str, int] = {}
    for job in jobs:
        config = load_config(job)
        planned[str(job)] = config.values.get("planned_runs") or 0
        first = None
        for past in History.of(iter_index(job, bad)).pasts():
            one = past.deciding
            assert one is not None
            first = first or load_result(job / one.path)
            benign, _, malicious = "".join(
                task_parts(one.task_id, first.attack)[0] if first.attack is None else one.task_id
            ).partition(":")
            rows.append(
                {
                    **dict.fromkeys(COLUMNS),
                    **{name: getattr(first, name) for name in ("dataset", "agent", "model")},
                    "suite": config.values["dataset"]["config"].get("suite_name"),
                    "model_kind": first.model_kind,
                    "attack": first.attack,
                    "job": str(job),
                    "identity": config.identity,
                    "task_id": one.task_id,
                    "benign_task": benign,
                    "malicious_task": malicious or None,
                    "vectors": "",
                    "run_index": one.run_index,
                    "status": str(one.status),
                    "benign_score": one.benign_score,
                    "attack_score": one.attack_score,
                    "error_type": one.exception_type,
                    "attempts": len(past.entries),
                    "input_tokens": sum(e.input_tokens for e in past.entries),
                    "output_tokens": sum(e.output_tokens for e in past.entries),
                    "cost": sum(e.cost or 0 for e in past.entries),
                    "unpriced": sum(e.cost is None for e in past.entries),
                    "duration": one.duration,
                }
            )
    problems = [f"{one.path}:{one.line}: {one.reason}" for one in bad]
    return ReadRuns(table({n: [r[n] for r in rows] for n in COLUMNS}), problems, planned)
