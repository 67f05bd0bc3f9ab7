"""What has been recorded of the runs of a job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.records.schema import IndexEntry, error_types


@dataclass(frozen=True)
class Past:
    """The attempts at one run, oldest first."""

    entries: tuple[IndexEntry, ...] = ()

    @property
    def deciding(self) -> IndexEntry | None:
        """The attempt that counts: the first that was scored, else the last that there is."""
        scored = (entry for entry in self.entries if entry.status == Status.SCORED)
        return next(scored, self.entries[-1] if self.entries else None)

    def settled(self, retry: frozenset[str] | None) -> IndexEntry | None:
        """Return the attempt after which the run is not executed again; ``None`` if it is.

        ``retry`` are the error types, in lower case, after which it is, as are types derived from
        them; ``None`` stands for all. A
        cancelled run has not come to an end, so it always is.
        """
        deciding = self.deciding
        if deciding is None or deciding.status == Status.CANCELLED:
            return None
        if deciding.status == Status.SCORED:
            return deciding
        if retry is None or not retry.isdisjoint(error_types(deciding)):
            return None
        return deciding


@dataclass
class History:
    """The attempts of a job, by the identity of their run."""

    _runs: dict[str, list[IndexEntry]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[IndexEntry]) -> History:
        """Sort ``entries``, which are in the order of time."""
        history = cls()
        for entry in entries:
            history._runs.setdefault(entry.identity, []).append(entry)
        return history

    def past(self, identity: str) -> Past:
        """Return the attempts at the run of that identity."""
        return Past(tuple(self._runs.get(identity, ())))

    def pasts(self) -> list[Past]:
        """Return the attempts at each run that has any."""
        return [Past(tuple(entries)) for entries in self._runs.values()]
