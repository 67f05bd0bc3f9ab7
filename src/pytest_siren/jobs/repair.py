"""Makes the index of a job tell what its files tell."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pytest_siren.jobs.build import data_of
from pytest_siren.jobs.lock import locked
from pytest_siren.jobs.marks import forget_dead_writers, marks
from pytest_siren.jobs.read import Unreadable, iter_index
from pytest_siren.jobs.records import INDEX_FILE, RESULT_FILE, IndexEntry
from pytest_siren.jobs.scan import Problem, folders, read_entry
from pytest_siren.jobs.write import write_lines


@dataclass
class Repaired:
    """What was found in the folder of a job, and what was done to its index."""

    job: Path
    entries: list[IndexEntry] = field(default_factory=list)
    """The lines of the index, as they are now."""
    added: int = 0
    """Attempts that the index did not know."""
    dropped: int = 0
    """Lines whose attempt is gone, or was named before."""
    corrected: int = 0
    """Lines that said something else than their attempt's file."""
    torn: list[Unreadable] = field(default_factory=list)
    """Lines that could not be read."""
    unfinished: int = 0
    """Folders of attempts whose process died before their result was written."""
    problems: list[Problem] = field(default_factory=list)
    """Files that are no records, or damaged ones: as if they were not there."""

    @property
    def changed(self) -> bool:
        """Whether the index had to be written anew."""
        return bool(self.added or self.dropped or self.corrected or self.torn)


def repair(job: Path, *, thorough: bool = True) -> Repaired:
    """Write the index of ``job`` anew if it is not what the attempts' files say.

    ``thorough`` reads every ``result.json``; else only those that the index does not name, and of
    the others only that they are there. Processes that are writing into the job meanwhile are
    waited for where the file system has locks. Raises ``OSError``.
    """
    with locked(job / INDEX_FILE):
        found = _examine(job, thorough=thorough)
        if found.changed:
            found.entries.sort(key=lambda entry: (entry.timestamp, entry.run_id))
            write_lines(job / INDEX_FILE, (data_of(entry) for entry in found.entries))
    forget_dead_writers(job)
    return found


def up_to_date(job: Path) -> Repaired:
    """Return what the index of ``job`` says, repaired first if anything speaks against it.

    That is a process that was killed while it wrote, a line that cannot be read, or a task whose
    folder is gone. The records themselves are not looked at. Raises ``OSError``.
    """
    found = Repaired(job)
    if marks(job) or not (job / INDEX_FILE).exists():
        return repair(job, thorough=False)
    found.entries = list(iter_index(job, found.torn))
    there = set(os.listdir(job))
    if found.torn or not all(entry.path.partition("/")[0] in there for entry in found.entries):
        return repair(job, thorough=False)
    return found


def _is_full(path: Path) -> bool:
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def _examine(job: Path, *, thorough: bool) -> Repaired:
    found = Repaired(job)
    known: dict[str, IndexEntry] = {}
    for line in iter_index(job, found.torn):
        found.dropped += line.path in known
        known[line.path] = line
    for folder in folders(job, found.problems):
        if not folder.finished:
            found.unfinished += 1
            continue
        before = known.get(folder.place)
        if before is not None and not thorough and _is_full(job / folder.place / RESULT_FILE):
            found.entries.append(known.pop(folder.place))
            continue
        entry = read_entry(job, folder.place, found.problems)
        if entry is None:
            continue
        known.pop(folder.place, None)
        found.entries.append(entry)
        found.added += before is None
        found.corrected += before is not None and entry != before
    found.dropped += len(known)
    return found
