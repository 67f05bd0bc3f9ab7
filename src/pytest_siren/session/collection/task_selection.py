"""Which tasks of a dataset a job runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import pytest

from pytest_siren.evaluation.bounds import MOST_RUNS_OF_JOB
from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask
from pytest_siren.session.items.job import Job
from pytest_siren.text.printable import printable

_MOST = 3
"""Near names, and datasets, that a message shows."""


@dataclass(eq=False)
class AskedTaskIds:
    """Which of the ids that the command line names the datasets of the session have."""

    ids: Sequence[str]
    _found: set[str] = field(default_factory=set)
    _near: dict[str, list[str]] = field(default_factory=dict)
    _datasets: list[str] = field(default_factory=list)

    def look_for(self, dataset: str, known: Collection[str]) -> None:
        """Note which ids are ``known`` in ``dataset``, and what is like those that are not."""
        if dataset not in self._datasets:
            self._datasets.append(dataset)
        for task_id in self.ids:
            if task_id in known:
                self._found.add(task_id)
            elif task_id not in self._found:
                near = get_close_matches(task_id, known, n=1)
                self._near.setdefault(task_id, []).extend(near)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session) -> None:
        """Report ids that no eval file knows as an error of collection, once."""
        # What could not be collected may know them.
        problems = [] if session.testsfailed else self._problems()
        if problems:
            report = pytest.CollectReport("--task-ids", "failed", "\n".join(problems), [])
            session.config.hook.pytest_collectreport(report=report)

    def _problems(self) -> list[str]:
        return [
            f"{self._where()} task {task_id!r}{self._hint(near)}"
            for task_id, near in self._near.items()
            if task_id not in self._found
        ]

    def _where(self) -> str:
        first, *others = [printable(name, 80) for name in self._datasets]
        if not others:
            return f"{first} has no"
        if len(self._datasets) > _MOST:
            others = [*others[: _MOST - 1], f"any of {len(self._datasets) - _MOST} others"]
        return f"neither {first} nor {' nor '.join(others)} has the"

    def _hint(self, near: Sequence[str]) -> str:
        names = [repr(name) for name in dict.fromkeys(near)][:_MOST]
        if not names:
            return ""
        *most, last = names
        return f" (did you mean {', '.join(most)}{' or ' if most else ''}{last}?)"


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
