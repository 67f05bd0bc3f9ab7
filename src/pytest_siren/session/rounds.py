"""The order of runs with ``--gate-stop``: round by round, tasks shuffled.

It depends on nothing but the configuration, so it is the same on every machine and in every
process, and no task comes early because it is quick.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from pytest_siren.session.items import RunItem
from pytest_siren.session.job import task_id


def place(identity: str, task: str, run_index: int) -> tuple[int, bytes]:
    """Return what runs are sorted by: the round, and a number that is as good as drawn.

    ``identity`` is that of the job. Tasks have the same order in every round.
    """
    return run_index, sha256(f"{identity} {task}".encode()).digest()


def in_rounds(items: list[pytest.Item]) -> None:
    """Put the runs among ``items`` in order, each at the place of another one."""
    places = [index for index, item in enumerate(items) if isinstance(item, RunItem)]
    runs = [item for item in items if isinstance(item, RunItem)]
    runs.sort(
        key=lambda item: place(
            item.job.identity, task_id(item.benign, item.malicious), item.run_index
        )
    )
    for index, run in zip(places, runs, strict=True):
        items[index] = run
