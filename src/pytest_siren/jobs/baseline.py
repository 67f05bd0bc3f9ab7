"""What runs are compared with: a job, a sweep, a glob, a baseline file or a folder of such."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pytest_siren.jobs.baselinefile import SUFFIX, BaselineError, read_baseline
from pytest_siren.jobs.read import RecordError
from pytest_siren.jobs.records import CONFIG_FILE
from pytest_siren.jobs.sweeps import SweepError, find_jobs
from pytest_siren.jobs.table import read_runs
from pytest_siren.metrics.runs import COLUMNS, table


def baseline_files(target: str, base: Path) -> list[Path]:
    """Return the baseline files that ``target`` names; none when it names something else.

    It is the path, from ``base``, of a file, or of a folder that holds ``*.baseline.jsonl``.
    """
    path = base / target
    if path.is_dir() and not (path / CONFIG_FILE).exists():
        return sorted(path.glob(f"*{SUFFIX}"))
    return [path] if path.is_file() else []


def load_baseline(target: str, jobs_dir: Path, base: Path) -> pd.DataFrame:
    """Return the table of runs of what ``target`` names, at least one run.

    ``target`` is a baseline file or a folder of such (from ``base``), the name or path of a job,
    the id of a sweep, or a glob over names of jobs in ``jobs_dir``. Raises ``BaselineError`` with a
    message for the user: nothing goes by that name, a file is damaged, or there is no run in it.
    """
    files = baseline_files(target, base)
    if files:
        runs = stacked([read_baseline(file) for file in files])
    else:
        try:
            jobs, _ = find_jobs(jobs_dir, target, base)
            read = read_runs(jobs)
        except SweepError as error:
            raise BaselineError(f"{error}, and no such baseline file in {base}") from error
        except RecordError as error:
            raise BaselineError(str(error)) from error
        if read.problems:
            more = f", and {len(read.problems) - 1} more" if len(read.problems) > 1 else ""
            raise BaselineError(
                f"{target!r} cannot be a baseline while parts of it are unreadable: "
                f"{read.problems[0]}{more}; siren jobs repair names them all"
            )
        runs = read.runs
    if not len(runs):
        raise BaselineError(f"the baseline {target!r} holds no run")
    return runs


def stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one table of the rows of ``tables``, of which there is at least one."""
    if len(tables) == 1:
        return tables[0]
    joined = pd.concat(
        [one.astype(dict.fromkeys(one.select_dtypes("category"), object)) for one in tables],
        ignore_index=True,
    )
    return table({name: joined[name].tolist() for name in COLUMNS})
