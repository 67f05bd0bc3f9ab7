"""What runs are likely to use, by what recorded runs of the same tasks and models have used."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.reading.job_config import RecordError, job_summary
from pytest_siren.jobs.reading.read import Unreadable, iter_index
from pytest_siren.jobs.sweeps import job_names
from pytest_siren.records import IndexEntry


@dataclass(frozen=True)
class Configured:
    """What the use of tokens depends on, beside the task."""

    dataset: str
    agent: str
    model: str
    attack: str | None

    @property
    def on(self) -> tuple[str, str]:
        """Dataset and model."""
        return self.dataset, self.model


@dataclass
class _Used:
    """Sums over scored attempts."""

    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def add(self, entry: IndexEntry) -> None:
        self.runs += 1
        self.input_tokens += entry.input_tokens
        self.output_tokens += entry.output_tokens
        self.cost += entry.cost or 0.0
        self.unpriced += entry.cost is None


@dataclass
class Estimate:
    """What runs are likely to use."""

    runs: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cost: float | None = 0.0
    """US dollars; ``None`` when the price of any run that it is taken from is unknown."""
    earlier: int = 0
    """Recorded runs that it is taken from."""
    of_other_tasks: int = 0
    """Runs whose task has no record: they count as the mean run of all tasks."""
    unknown: int = 0
    """Runs that no record is like; they are not in the sums."""

    def _add(self, used: _Used) -> None:
        self.input_tokens += used.input_tokens / used.runs
        self.output_tokens += used.output_tokens / used.runs
        priced = self.cost is not None and not used.unpriced
        self.cost = (self.cost or 0.0) + used.cost / used.runs if priced else None


@dataclass
class EarlierRuns:
    """The scored attempts of the recorded jobs of some datasets and models."""

    problems: list[str] = field(default_factory=list)
    """Jobs and lines of indexes that could not be read."""
    _same: dict[tuple[Configured, str], _Used] = field(default_factory=dict)
    _task: dict[tuple[tuple[str, str], str], _Used] = field(default_factory=dict)
    _any: dict[tuple[str, str], _Used] = field(default_factory=dict)

    @classmethod
    def read(cls, folders: Iterable[Path], wanted: Iterable[Configured]) -> EarlierRuns:
        """Read the jobs in ``folders`` that have dataset and model in common with one wanted."""
        found, pairs = cls(), {configured.on for configured in wanted}
        for folder in folders:
            for name in job_names(folder):
                found._read(folder / name, pairs)
        return found

    def _read(self, job: Path, wanted: Collection[tuple[str, str]]) -> None:
        unreadable: list[Unreadable] = []
        try:
            facts = job_summary(job)
            configured = Configured(facts.dataset, facts.agent, facts.model, facts.attack)
            if configured.on in wanted:
                for entry in iter_index(job, unreadable):
                    if entry.status == Status.SCORED:
                        self._add(configured, entry)
        except RecordError as error:
            self.problems.append(str(error))
        self.problems += map(str, unreadable)

    def _add(self, configured: Configured, entry: IndexEntry) -> None:
        on = configured.on
        self._same.setdefault((configured, entry.task_id), _Used()).add(entry)
        self._task.setdefault((on, _benign(entry.task_id)), _Used()).add(entry)
        self._any.setdefault(on, _Used()).add(entry)

    def estimate(self, configured: Configured, tasks: Iterable[str]) -> Estimate:
        """Return what a run of each of ``tasks`` is likely to use; a task may be named repeatedly.

        A run counts as the mean recorded run of its task with the same agent and attack; where
        there is none, of its benign task on the same model; else of all tasks on that model.
        """
        made, on = Estimate(), configured.on
        same: dict[str, _Used] = {}
        of_task: dict[str, _Used] = {}
        for task in tasks:
            made.runs += 1
            benign = _benign(task)
            if (used := self._same.get((configured, task))) is not None:
                same[task] = used
            elif (used := self._task.get((on, benign))) is not None:
                of_task[benign] = used
            elif (used := self._any.get(on)) is not None:
                made.of_other_tasks += 1
            else:
                made.unknown += 1
                continue
            made._add(used)
        if made.of_other_tasks:
            made.earlier = self._any[on].runs
        else:
            alone = (used for task, used in same.items() if _benign(task) not in of_task)
            made.earlier = sum(used.runs for used in (*alone, *of_task.values()))
        return made


def _benign(task_id: str) -> str:
    """Return the benign task of a task or couple."""
    return task_id.partition(":")[0]
