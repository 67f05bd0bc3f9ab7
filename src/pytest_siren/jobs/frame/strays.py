"""Where the index of a job and the folders of its attempts disagree."""

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
    """Attempts that only one of the two knows."""

    job: Path
    unindexed: int
    """Recorded, and not in the index, as after a process was killed."""
    gone: int
    """In the index, and recorded no more; 0 for a job of which only the index was kept."""

    def not_counted(self) -> list[str]:
        """Return a line if rates lack something."""
        if not self.unindexed:
            return []
        attempts = counted(self.unindexed, "recorded attempt is", "recorded attempts are")
        return [
            f"{self.job}: {attempts} not in the index, and not counted: "
            f"siren jobs repair {self.job.name} adds what is missing, or names what it cannot read"
        ]

    def not_recorded(self) -> list[str]:
        """Return a line if rates count what nobody can look at any more."""
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
    What a process is writing at this moment is on its way into the index, and no stray. Raises
    ``OSError`` when the job's folder cannot be read.
    """
    known = set(places)
    there = set(_places(job))
    counts = _is_finished if damaged else _is_whole
    finished = [place for place in there - known if counts(job, place)]
    gone = sum(not _is_finished(job, place) for place in known - there) if there else 0
    return UnindexedAttempts(job, 0 if written_now(job) else len(finished), gone)


def _places(job: Path) -> list[str]:
    with os.scandir(job) as found:
        tasks = [one.name for one in found if one.name[0] != "." and one.is_dir()]
    return [f"{task}/{name}" for task in tasks for name in _names(job / task) if is_run_id(name)]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        # Of what cannot be read, the index tells all that there is.
        return []


def _is_whole(job: Path, place: str) -> bool:
    """Tell whether repair could add the attempt: a record that is damaged has no figures."""
    if not _is_finished(job, place):
        return False
    try:
        load_result(job / place)
    except RecordError:
        return False
    return True


def _is_finished(job: Path, place: str) -> bool:
    return os.path.exists(f"{job}/{place}/{RESULT_FILE}")
