"""Which tasks of a dataset a job runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from pytest_siren.evaluation.bounds import MOST_RUNS_OF_JOB
from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask
from pytest_siren.session.job import Job
from pytest_siren.session.task_ids import AskedTaskIds


class UnknownTaskError(ValueError):
    """A task id that the dataset does not have."""


def runs(
    job: Job, asked: AskedTaskIds | None = None
) -> Iterator[tuple[BenignTask, MaliciousTask | None, int]]:
    """Yield the task or couple and the run index of every run, run by run of each task.

    Raises ``UnknownTaskError`` for ids that the dataset does not have. Those that are ``asked`` for
    on the command line may belong to another eval file.
    """
    ids = job.spec.task_ids
    if asked is not None and ids is not None and set(ids) == set(asked.ids):
        asked.look_for(job.dataset.name, _known(job))
    elif ids is not None:
        _check(job, ids)
    if ids is not None and job.attack is None:
        _check_couples(job, ids)
    wanted = None if ids is None else frozenset(ids)
    chosen = [
        (benign, malicious)
        for benign, malicious in _tasks(job)
        if wanted is None or not wanted.isdisjoint(_names(benign, malicious))
    ]
    if (total := len(chosen) * job.spec.runs) > MOST_RUNS_OF_JOB:
        raise ValueError(
            f"{len(chosen):,} tasks x {job.spec.runs:,} runs are {total:,} runs, and a job may "
            f"have {MOST_RUNS_OF_JOB:,}: choose fewer with --runs or --task-ids"
        )
    for benign, malicious in chosen:
        for run_index in range(job.spec.runs):
            yield benign, malicious, run_index


def _tasks(job: Job) -> Iterator[tuple[BenignTask, MaliciousTask | None]]:
    if job.attack is None:
        for task in job.dataset.benign_tasks:
            yield task, None
        for task in _as_benign(job):
            yield task, None
    else:
        for couple in job.dataset.couples:
            yield couple.benign, couple.malicious


def _as_benign(job: Job) -> Iterator[BenignTask]:
    """Yield the malicious tasks that run as benign ones: all, or those that are named."""
    named = frozenset(job.spec.task_ids or ())
    wanted = [
        task
        for task in job.dataset.malicious_tasks
        if task.id in named or (job.spec.malicious_as_benign and not named)
    ]
    prompts = {task.system_prompt for task in job.dataset.benign_tasks} if wanted else set()
    system_prompt = prompts.pop() if len(prompts) == 1 else None
    for task in wanted:
        yield task.as_benign(system_prompt)


def _check_couples(job: Job, ids: Sequence[str]) -> None:
    """Refuse ids of couples alone where there is no attack: nothing would be run, in silence."""
    couples = {couple.id for couple in job.dataset.couples}.intersection(ids)
    single = {task.id for task in job.dataset.benign_tasks}
    single |= {task.id for task in job.dataset.malicious_tasks}
    if couples and not single.intersection(ids):
        raise UnknownTaskError(
            f"{job.dataset.name}: {', '.join(sorted(couples))} can only be run with an attack, and "
            "there is none: name one with --attack, or name tasks"
        )


def _names(benign: BenignTask, malicious: MaliciousTask | None) -> set[str]:
    """Return the ids by which this task or couple may be asked for."""
    if malicious is None:
        return {benign.id}
    return {benign.id, malicious.id, f"{benign.id}:{malicious.id}"}


def _known(job: Job) -> set[str]:
    """Return all ids by which tasks and couples may be asked for."""
    dataset = job.dataset
    known = {task.id for task in dataset.benign_tasks} | {t.id for t in dataset.malicious_tasks}
    return known | {couple.id for couple in dataset.couples}


def _check(job: Job, ids: Sequence[str]) -> None:
    known = _known(job)
    for task_id in ids:
        if task_id not in known:
            nearest = get_close_matches(task_id, known, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise UnknownTaskError(f"{job.dataset.name} has no task {task_id!r}{hint}")
