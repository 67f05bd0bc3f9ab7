"""Tasks whose pass@k, or pass^k, is decided before all of their k runs have been taken.

Where each task has exactly k runs, pass@k of a task is 1 once one of them succeeds, and pass^k is 0
once one fails, whatever the others come to. So these may be left out. Then the runs that there are
are a fair sample for these measures only: by any other, the outcome of a run decides whether there
is a next one. The first run of every task is always taken, and is fair for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import NamedTuple, Protocol


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
    """Return the names of measures as the column ``decided`` of ``metrics/runs.py`` has them."""
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
