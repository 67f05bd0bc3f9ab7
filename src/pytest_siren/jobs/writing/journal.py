"""What an attack notes of a run while it goes on, in a file beside the run's attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_siren.jobs.records.naming import journal_name, task_directory, task_parts
from pytest_siren.jobs.redact import ENVIRONMENT, Redactor
from pytest_siren.jobs.writing.write import append


@dataclass(frozen=True)
class FileJournal:
    """A JSON Lines file, without secrets, whose lines are kept once they are written."""

    path: Path
    redactor: Redactor = ENVIRONMENT

    def entries(self) -> Sequence[Mapping[str, Any]]:
        """Return all lines but those in which a process died. Raises ``OSError`` but for no file.

        Whoever wrote such a line has not gone on after it.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return ()
        return [found for line in lines if isinstance(found := _read(line), dict)]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line. Raises ``OSError`` when the disk refuses."""
        self.path.parent.mkdir(exist_ok=True)
        append(self.path, [entry], redactor=self.redactor)


def journal_of(
    job: Path, task_id: str, run_index: int, scored: int, redactor: Redactor
) -> FileJournal:
    """Return the journal of a run of which ``scored`` attempts have been scored before.

    An attempt that is made although the run has a score begins with an empty one.
    """
    folder = task_directory(task_id, task_parts(task_id, "attacked"))
    return FileJournal(job / folder / journal_name(run_index, scored), redactor)


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
