"""What earlier sessions recorded of the runs that this one goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_siren.jobs.reading.history import History, Past
from pytest_siren.jobs.reading.prompt_siren import named
from pytest_siren.jobs.reading.read import Unreadable, iter_index
from pytest_siren.jobs.records.schema import CONFIG_FILE, IndexEntry
from pytest_siren.session.execution.gc_tuning import no_collections
from pytest_siren.session.resume.resolve import Resume


class PastRuns:
    """The histories of the resumed jobs, by identity; those not ``known`` are read when needed.

    The controller has seen to it that the indexes are whole, and has named what is not.
    """

    def __init__(self, resume: Resume | None, known: Mapping[str, History]) -> None:
        self._resume = resume
        self._histories = dict(known)
        retry = resume.retry if resume else None
        self._retry = None if retry is None else frozenset(retry)

    def of(self, job: str, run: str) -> Past:
        """Return the attempts at the run of that identity of the job of that identity."""
        if self._resume is None:
            return Past()
        if job not in self._histories:
            self._histories[job] = self._read(job, self._resume.jobs.get(job))
        return self._histories[job].past(run)

    def settled(self, past: Past) -> IndexEntry | None:
        """Return the attempt that makes this session execute the run no more, if there is one."""
        return past.settled(self._retry)

    def _read(self, identity: str, folder: str | None) -> History:
        if folder is None or not (Path(folder) / CONFIG_FILE).exists():
            return History()
        unreadable: list[Unreadable] = []
        with no_collections():
            return History.of(named(iter_index(Path(folder), unreadable), identity))
