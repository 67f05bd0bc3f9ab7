"""Compares the index of a job with the folders of its attempts."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_result
from pytest_siren.jobs.records.naming import RESULT_FILE, is_run_id
from pytest_siren.jobs.writing.write import written_now
from pytest_siren.text.words import counted


@dataclass(frozen=True)
class UnindexedAttempts:
    """Numbers of attempts that only the index, or only the folders, contain."""

    job: Path
    unindexed: int
    """Attempts with a record that the index lacks, as after a process was killed."""
    gone: int
    """Attempts in the index without a record; 0 for a job of which only the index was kept."""

    def not_counted(self) -> list[str]:
        """Return a line if rates leave out recorded attempts."""
        if not self.unindexed:
            return []
        attempts = counted(self.unindexed, "recorded attempt is", "recorded attempts are")
        return [
            f"{self.job}: {attempts} not in the index, and not counted: "
            f"siren jobs repair {self.job.name} adds what is missing, or names what it cannot read"
        ]

    def not_recorded(self) -> list[str]:
        """Return a line if rates count attempts whose record is gone."""
        if not self.gone:
            return []
        attempts = counted(self.gone, "attempt", "attempts")
        return [
            f"{self.job}: {attempts} of the index have no record any more and are counted: "
            f"siren jobs repair {self.job.name} drops them"
        ]


def find_unindexed(
    job: Path, places: Collection[str], *, damaged: bool = True
) -> UnindexedAttempts:
    """Compare the folders of the attempts of ``job`` with ``places``, those that its index names.

    Without ``damaged``, records that cannot be read are left out, as repair cannot add them.
    Attempts that a running process is writing are not reported. Raises
    ``OSError`` when the job's folder cannot be read.
    """
    known = set(places)
    there = set(_places(job))
    counts = _is_finished if damaged else _is_whole
    finished = [place for place in there - known if counts(job, place)]
    gone = sum(not _is_finished(job, place) for place in known - there) if there else 0
    return UnindexedAttempts(job, 0 if written_now(job) else len(finished), gone)


def has_attempts(job: Path) -> bool:
    """Return whether an attempt of ``job`` has been begun. Raises ``OSError`` as above."""
    return bool(_places(job))


def _places(job: Path) -> list[str]:
    with os.scandir(job) as found:
        tasks = [one.name for one in found if one.name[0] != "." and one.is_dir()]
    return [f"{task}/{name}" for task in tasks for name in _names(job / task) if is_run_id(name)]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        # Unreadable folders count only if the index names them.
        return []


def _is_whole(job: Path, place: str) -> bool:
    """Return whether repair could add the attempt, which it cannot if the record is damaged."""
    if not _is_finished(job, place):
        return False
    try:
        load_result(job / place)
    except RecordError:
        return False
    return True


def _is_finished(job: Path, place: str) -> bool:
    return os.path.exists(f"{job}/{place}/{RESULT_FILE}")
