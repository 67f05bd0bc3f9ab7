"""Which tasks of a dataset a job runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask
from pytest_siren.session.job import Job


class UnknownTaskError(ValueError):
    """A task id that the dataset does not have."""


def runs(job: Job) -> Iterator[tuple[BenignTask, MaliciousTask | None, int]]:
    """Yield the task or couple and the run index of every run, run by run of each task."""
    ids = job.spec.task_ids
    if ids is not None:
        _check(job, ids)
    wanted = None if ids is None else frozenset(ids)
    for benign, malicious in _tasks(job):
        if wanted is None or not wanted.isdisjoint(_names(benign, malicious)):
            for run_index in range(job.spec.runs):
                yield benign, malicious, run_index


def _tasks(job: Job) -> Iterator[tuple[BenignTask, MaliciousTask | None]]:
    if job.attack is None:
        for task in job.dataset.benign_tasks:
            yield task, None
    else:
        for couple in job.dataset.couples:
            yield couple.benign, couple.malicious


def _names(benign: BenignTask, malicious: MaliciousTask | None) -> set[str]:
    """Return the ids by which this task or couple may be asked for."""
    if malicious is None:
        return {benign.id}
    return {benign.id, malicious.id, f"{benign.id}:{malicious.id}"}


def _check(job: Job, ids: Sequence[str]) -> None:
    dataset = job.dataset
    known = {task.id for task in dataset.benign_tasks} | {t.id for t in dataset.malicious_tasks}
    known |= {couple.id for couple in dataset.couples}
    for task_id in ids:
        if task_id not in known:
            nearest = get_close_matches(task_id, known, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise UnknownTaskError(f"{dataset.name} has no task {task_id!r}{hint}")
