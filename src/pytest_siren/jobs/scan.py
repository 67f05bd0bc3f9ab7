"""What lies in a job's folder, whatever its index says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_siren.jobs.build import index_entry_of
from pytest_siren.jobs.naming import is_run_id
from pytest_siren.jobs.read import RecordError, load_result
from pytest_siren.jobs.records import CONFIG_FILE, DROPPED_FILE, INDEX_FILE, RESULT_FILE, IndexEntry

_OWN = frozenset({CONFIG_FILE, INDEX_FILE, DROPPED_FILE, f"{INDEX_FILE}.lock", "siren.log"})
"""Files of a job; the last two are prompt-siren's."""


@dataclass(frozen=True)
class Problem:
    """Something in a job's folder that is no record, or cannot be read as one."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Folder:
    """The folder of an attempt."""

    place: str
    """Relative to the job's folder, with ``/``."""
    finished: bool
    """Whether ``result.json`` is there; else its process died while it wrote."""


def folders(job: Path, problems: list[Problem]) -> Iterator[Folder]:
    """Yield the folders of the attempts of ``job``; what is none of these is a problem.

    Raises ``OSError`` when the job's own folder cannot be read.
    """
    with os.scandir(job) as found:
        tasks = sorted(entry.name for entry in found if not _passed_over(entry.name))
    for task in tasks:
        try:
            with os.scandir(job / task) as found:
                names = sorted(entry.name for entry in found)
        except NotADirectoryError:
            problems.append(Problem(job / task, "a file that is no part of a job"))
            continue
        except OSError as error:
            problems.append(Problem(job / task, f"cannot be read: {error.strerror}"))
            continue
        for name in names:
            if is_run_id(name) and os.path.isdir(job / task / name):
                finished = os.path.exists(job / task / name / RESULT_FILE)
                yield Folder(f"{task}/{name}", finished)
            elif not name.startswith("."):
                problems.append(Problem(job / task / name, "no attempt at a run"))


def _passed_over(name: str) -> bool:
    return name in _OWN or name.startswith(".")


def read_entry(job: Path, place: str, problems: list[Problem]) -> IndexEntry | None:
    """Return the line of the index for the attempt in ``place``; ``None`` adds to ``problems``."""
    try:
        result = load_result(job / place)
    except RecordError as error:
        path = job / place / RESULT_FILE
        problems.append(Problem(path, str(error).removeprefix(f"{path}: ")))
        return None
    if result.run_id != place.rpartition("/")[2]:
        reason = f"it says that it is of the attempt {result.run_id!r}"
        problems.append(Problem(job / place / RESULT_FILE, reason))
        return None
    return index_entry_of(result, place)
