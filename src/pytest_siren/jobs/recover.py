"""What is known of a run from the files of its job."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pytest_siren.evaluation.run import Status
from pytest_siren.jobs.naming import task_directory, task_parts
from pytest_siren.jobs.read import load_result
from pytest_siren.jobs.records import RESULT_FILE, Result


def finished_attempt(
    job: Path, task_id: str, attack: str | None, identity: str, besides: Collection[str] = ()
) -> Result | None:
    """Return a recorded attempt at the run with that ``identity`` that came to an end.

    Attempts with the ids ``besides`` are passed over.

    That is a score or an error; attempts that were cancelled, and those whose process died before
    ``result.json`` was there, are none. Raises ``RecordError`` for a record that cannot be read.
    """
    try:
        folders = sorted((job / task_directory(task_id, task_parts(task_id, attack))).iterdir())
    except FileNotFoundError:
        return None
    for folder in folders:
        if folder.name in besides or not (folder / RESULT_FILE).exists():
            continue
        result = load_result(folder)
        if result.identity == identity and result.status != Status.CANCELLED:
            return result
    return None
