"""Tasks that ended early, and which of their runs a measure may count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from pytest_siren.metrics.rates.measures import Measure


class Scored(Protocol):
    """What is known of a run that has ended."""

    @property
    def status(self) -> str: ...
    @property
    def benign_score(self) -> float | None: ...
    @property
    def attack_score(self) -> float | None: ...


class Question(NamedTuple):
    """A measure over all k runs of a task."""

    of_attacker: bool
    """Whether it is of the attack score rather than of the benign one."""
    all_of: bool
    """Whether all runs must succeed (pass^k) rather than one of them (pass@k)."""
    k: int

    @classmethod
    def of(cls, measure: str) -> Question:
        """Return the question of ``measure``, such as ``attack_pass@5``."""
        stem, _, k = measure.replace("^", "@").partition("@")
        return cls(stem == "attack_pass", "^" in measure, int(k))

    def __str__(self) -> str:
        stem = "attack_pass" if self.of_attacker else "benign_pass"
        return f"{stem}{'^' if self.all_of else '@'}{self.k}"

    def decided_by(self, run: Scored) -> bool:
        """Whether nothing that other runs come to can change the answer for the task."""
        score = run.attack_score if self.of_attacker else run.benign_score
        if run.status != "scored" or score is None or isnan(score):
            return False
        return (score == 1.0) != self.all_of


Questions = Mapping[str, Sequence[Question]]
"""Identity of each job whose tasks may end early to what is asked of it."""


def joined(names: Iterable[object]) -> str:
    """Return the names of measures as the column ``decided`` of ``metrics/frame.py`` has them."""
    return " ".join(sorted({str(name) for name in names}))


@dataclass
class Deciding:
    """Takes in what runs came to, and knows which tasks need no further ones."""

    jobs: Questions
    """A task is decided once all questions of its job are."""
    decided: set[tuple[str, str]] = field(default_factory=set)
    """Identity of the job and id of the task."""
    _open: dict[tuple[str, str], set[Question]] = field(default_factory=dict)

    def add(self, identity: str, task: str, run: Scored) -> bool:
        """Take in one run; tell whether its task is decided by it, and was not before."""
        questions = self.jobs.get(identity)
        key = identity, task
        if questions is None or key in self.decided:
            return False
        still = self._open.setdefault(key, set(questions))
        still -= {question for question in still if question.decided_by(run)}
        if still:
            return False
        self.decided.add(key)
        del self._open[key]
        return True

    def needs(self, identity: str, task: str, run_index: int) -> bool:
        """Whether a run must be taken. The first of its task always is."""
        return run_index == 0 or (identity, task) not in self.decided

    def left(self, ended: Iterable[tuple[str, str, int]]) -> dict[str, int]:
        """Return identity to the runs of decided tasks that are not among the ``ended`` ones.

        The first run of a task is never among those: while it has not ended, it is pending.
        """
        left = dict.fromkeys(self.jobs, 0)
        for identity, _ in self.decided:
            left[identity] += self.jobs[identity][0].k - 1
        for identity, task, run_index in set(ended):
            if (identity, task) in self.decided and 0 < run_index < self.jobs[identity][0].k:
                left[identity] -= 1
        return left


def asking(names: Mapping[str, Iterable[str]]) -> Deciding:
    """Return what takes in runs of jobs, given the measures of each that its tasks end early by."""
    questions = {one: tuple(map(Question.of, of_job)) for one, of_job in names.items()}
    return Deciding(questions)


Mask = npt.NDArray[np.bool_]


def ended_early(runs: pd.DataFrame) -> Mask:
    """Tell of each run whether tasks of its job may have ended early."""
    mask: Mask = runs["decided"].cat.codes.to_numpy() >= 0
    return mask


def decided_by(runs: pd.DataFrame, measure: Measure) -> Mask:
    """Tell of each run whether tasks of its job may have ended early by ``measure``."""
    if measure.k == 1:
        return np.zeros(len(runs), dtype=bool)
    column: Any = runs["decided"].cat
    name = str(Question(measure.stem == "attack_pass", measure.all_of, measure.k))
    # The code -1 of a missing value reads the last place.
    among = [name in str(names).split() for names in column.categories] + [False]
    mask: Mask = np.asarray(among, dtype=bool)[column.codes.to_numpy()]
    return mask


def fair(runs: pd.DataFrame, measure: Measure) -> Mask:
    """Tell of each run whether ``measure`` may count it.

    Where tasks ended early by ``measure`` itself, their first k runs are; where they did so by
    others, only the first one, for whether there is a next depends on what came before.
    """
    early = ended_early(runs)
    if not early.any():
        return ~early
    most = np.where(decided_by(runs, measure), measure.k, 1)
    return ~early | (runs["run_index"].to_numpy() < most)
