"""What a report of recorded jobs is made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from pytest_siren.jobs.table import read_runs
from pytest_siren.metrics.measures import Measure
from pytest_siren.metrics.paired import Increase, increase
from pytest_siren.reports.data import ReportData

COMPARED = ("utility", "utility_under_attack", "asr", "error_rate")


def recorded(
    jobs: Sequence[Path],
    root: Path,
    title: str,
    baseline: tuple[str, pd.DataFrame] | None = None,
) -> ReportData:
    """Return what is to be said of ``jobs``, folders of recorded jobs.

    ``baseline`` is a table of runs to compare them with, and its name. What cannot be read is named
    in ``problems``.
    """
    folders = tuple(job.absolute() for job in jobs)
    read = read_runs(folders, paths=True)
    ended = int(read.runs["status"].isin(["scored", "error"]).sum())
    pending = max(0, sum(read.planned.values()) - ended)
    return ReportData(
        title=title,
        runs=read.runs,
        folders=folders,
        root=root,
        made_at=datetime.now(UTC),
        problems=tuple(read.problems),
        planned=read.planned,
        pending=pending,
        comparison=None if baseline is None else increases(baseline[1], read.runs),
        baseline=None if baseline is None else baseline[0],
    )


def increases(baseline: pd.DataFrame, runs: pd.DataFrame) -> tuple[Increase, ...]:
    """Compare ``runs`` with ``baseline`` in each measure that both have runs for."""
    found = (increase(baseline, runs, Measure.of(name)) for name in COMPARED)
    return tuple(one for one in found if one.pairs or one.left_out)
