"""What a report of recorded jobs is made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from pytest_siren.jobs.table import read_runs
from pytest_siren.metrics.choices import Cluster, cluster_note
from pytest_siren.metrics.paired import compare
from pytest_siren.reports.changes import changes
from pytest_siren.reports.data import ReportData


def recorded(
    jobs: Sequence[Path],
    root: Path,
    title: str,
    baseline: tuple[str, pd.DataFrame] | None = None,
    cluster: Cluster = Cluster.COUPLE,
    ks: tuple[int, ...] = (),
) -> ReportData:
    """Return what is to be said of ``jobs``, folders of recorded jobs.

    ``baseline`` is a table of runs to compare them with, and its name. Each of ``ks`` above 1 is a
    k to show pass@k for. What cannot be read is named
    in ``problems``.
    """
    folders = tuple(job.absolute() for job in jobs)
    read = read_runs(folders, paths=True)
    ended = read.runs["job"][read.runs["status"].isin(["scored", "error"])].value_counts()
    pending = sum(max(0, runs - int(ended.get(job, 0))) for job, runs in read.planned.items())
    comparison = None if baseline is None else compare(baseline[1], read.runs, cluster=cluster)
    return ReportData(
        title=title,
        runs=read.runs,
        folders=folders,
        root=root,
        made_at=datetime.now(UTC),
        problems=tuple(read.problems),
        cluster=cluster,
        ks=ks,
        notes=(*cluster_note(cluster), *read.notes),
        planned=read.planned,
        pending=pending,
        comparison=comparison,
        baseline=None if baseline is None else baseline[0],
        changes=() if comparison is None else changes(comparison),
    )
