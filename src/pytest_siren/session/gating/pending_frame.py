"""The table of planned runs that have not ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from pytest_siren.metrics.frame import COLUMNS, INTEGERS, table
from pytest_siren.metrics.gates.selection import PENDING
from pytest_siren.session.gating.manifest import RunManifest

Key = tuple[str, str, str, int]
"""Identity and folder of the job, task and run index."""


def pending_frame(
    plan: Iterable[RunManifest],
    ended: Collection[Key] = frozenset(),
    decided: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return a row (``metrics/frame.py``) with the status ``pending`` for each run not ``ended``.

    ``decided`` maps the identity of a job to its value of that column.
    """
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for one in plan:
        for task in one.tasks:
            job = one.jobs[task.job]
            row = {
                **dict.fromkeys(COLUMNS),
                **dict.fromkeys(INTEGERS, 0),
                **job,
                "task_id": task.id,
                "benign_task": task.benign,
                "malicious_task": task.malicious,
                "status": PENDING,
                "decided": (decided or {}).get(str(job["identity"])),
            }
            for run_index in task.runs:
                if (job["identity"], job["job"], task.id, run_index) not in ended:
                    for name, value in {**row, "run_index": run_index}.items():
                        columns[name].append(value)
    return table(columns)
