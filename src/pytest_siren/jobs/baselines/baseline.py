"""Loads baselines: a job, a sweep, a glob, a baseline file or a folder of such."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pytest_siren.jobs.baselines.files import SUFFIX, BaselineError, read_baseline
from pytest_siren.jobs.frame.table import read_runs
from pytest_siren.jobs.reading.job_config import baseline_note
from pytest_siren.jobs.records.naming import CONFIG_FILE
from pytest_siren.jobs.sweeps import SweepError, find_jobs
from pytest_siren.metrics.frame import COLUMNS, table


@dataclass(frozen=True)
class Source:
    """Runs to compare, and their origin."""

    target: str
    """The user's argument."""
    runs: pd.DataFrame
    """The table of ``metrics/frame.py``, at least one row."""
    jobs: tuple[Path, ...]
    """Folders of jobs; none for baseline files."""
    files: tuple[Path, ...]
    """Baseline files; none for jobs."""
    planned: Mapping[str, int]
    """Path of a job's folder to the runs that were planned and are needed, where that is recorded.
    """
    notes: tuple[str, ...] = ()
    """Notes on runs that were not needed, in a line each."""

    @property
    def pending(self) -> int:
        """Number of planned runs that have not ended."""
        tried = self.runs["job"].astype(str).value_counts()
        return sum(max(0, runs - int(tried.get(job, 0))) for job, runs in self.planned.items())


def load_baseline(target: str, jobs_dir: Path, base: Path) -> pd.DataFrame:
    """Return the table of runs of what ``target`` names, at least one run.

    ``target`` is a baseline file or a folder of such (from ``base``), the name or path of a job,
    the id of a sweep, or a glob over names of jobs in ``jobs_dir``. Raises ``BaselineError`` with a
    message for the user: nothing goes by that name, a file is damaged, or there is no run in it.
    """
    return load_source(target, jobs_dir, base).runs


def load_source(target: str, jobs_dir: Path, base: Path) -> Source:
    """Return the runs of what ``target`` names, as ``load_baseline``, and where they are from."""
    files = _baseline_files(target, base)
    if files:
        runs = _stacked([read_baseline(file) for file in files])
        notes = tuple(baseline_note(runs))
        return _filled(Source(target, runs, (), tuple(files), {}, notes))
    return load_jobs(target, jobs_dir, base)


def load_jobs(target: str, jobs_dir: Path, base: Path) -> Source:
    """Return the runs of the jobs that ``target`` names. Raises ``BaselineError`` as above."""
    try:
        jobs, _ = find_jobs(jobs_dir, target, base)
    except SweepError as error:
        raise BaselineError(f"{error}, and no baseline file of that name in {base}") from error
    read = read_runs(jobs)
    if read.problems:
        more = f", and {len(read.problems) - 1} more" if len(read.problems) > 1 else ""
        raise BaselineError(
            f"{target!r} cannot be compared while parts of it are unreadable: "
            f"{read.problems[0]}{more}; 'siren jobs repair' rebuilds what can be rebuilt"
        )
    return _filled(Source(target, read.runs, tuple(jobs), (), read.planned, read.notes))


def _baseline_files(target: str, base: Path) -> list[Path]:
    path = base / target
    if os.path.isdir(path) and not os.path.exists(path / CONFIG_FILE):
        return sorted(path.glob(f"*{SUFFIX}"))
    return [path] if os.path.exists(path) and not os.path.isdir(path) else []


def _filled(source: Source) -> Source:
    if not len(source.runs):
        raise BaselineError(f"{source.target!r} holds no run, so nothing can be compared with it")
    return source


def _stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one table of the rows of ``tables``, of which there is at least one."""
    if len(tables) == 1:
        return tables[0]
    joined = pd.concat([one.astype(object) for one in tables], ignore_index=True)
    return table({name: joined[name].tolist() for name in COLUMNS})
