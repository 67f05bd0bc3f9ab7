"""The report of an audit of evaluators, for terminals and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_siren.evaluation.grading.audit import TaskAudit, kills
from pytest_siren.evaluation.grading.mutants import Mutant
from pytest_siren.spec.audit_exceptions import AuditException
from pytest_siren.text.words import counted

_LONGEST_CHANGE = 100


@dataclass
class AuditReport:
    """What evaluators accept, and which of it was reviewed."""

    audits: Sequence[TaskAudit]
    exceptions: Sequence[AuditException] = ()
    versions: dict[str, str] = field(default_factory=dict)
    """Of what was audited: package or benchmark to version."""

    def __post_init__(self) -> None:
        self.survivors: list[tuple[TaskAudit, Mutant]] = []
        """Wrong solutions that pass and are no exceptions."""
        self.excepted: list[tuple[TaskAudit, Mutant, str]] = []
        """Those that are, with the reason."""
        used: set[int] = set()
        for audit in self.audits:
            for mutant in audit.survivors:
                asked = (audit.dataset, audit.task_id, mutant.name)
                covering = [one for one in self.exceptions if one.covers(*asked)]
                used.update(map(id, covering))
                if covering:
                    self.excepted.append((audit, mutant, covering[0].reason))
                else:
                    self.survivors.append((audit, mutant))
        self.unused = [one for one in self.exceptions if id(one) not in used]

    @property
    def killed(self) -> int:
        """Wrong solutions that evaluators refuse."""
        return sum(tally.killed for tally in kills(self.audits).values())

    @property
    def grader_kill(self) -> float | None:
        """Share of the wrong solutions, exceptions apart, that are refused; ``None`` for none."""
        return _share(self.killed, len(self.survivors))

    @property
    def untouched(self) -> list[TaskAudit]:
        """Tasks whose evaluators pass where nothing was done."""
        return [one for one in self.audits if one.untouched]

    @property
    def refused(self) -> list[TaskAudit]:
        """Tasks whose evaluators refuse the ground truth."""
        return [one for one in self.audits if one.refused is not None]

    @property
    def not_audited(self) -> list[TaskAudit]:
        """Tasks that could not be audited."""
        return [one for one in self.audits if one.problem is not None]

    def data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "grader_kill": self.grader_kill,
            "tasks": len(self.audits),
            "audited": len(self.audits) - len(self.not_audited),
            "datasets": {name: self._of(name) for name in self._names()},
            "versions": self.versions,
            "killed": self.killed,
            "mutants": {kind.value: vars(tally) for kind, tally in kills(self.audits).items()},
            "survivors": [_mutant(audit, mutant) for audit, mutant in self.survivors],
            "excepted": [
                {**_mutant(audit, mutant), "reason": why} for audit, mutant, why in self.excepted
            ],
            "unused_exceptions": [one.model_dump() for one in self.unused],
            "untouched": list(map(_task, self.untouched)),
            "refused": [{**_task(one), "score": one.refused} for one in self.refused],
            "not_audited": [{**_task(one), "reason": one.problem} for one in self.not_audited],
            "unseen": [{**_task(one), "calls": one.unseen} for one in self.audits if one.unseen],
        }

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield from self._by_dataset()
        yield from self._by_kind()
        yield from _listed("evaluators pass although nothing was done", self.untouched)
        yield from _listed("evaluators refuse the ground truth", self.refused)
        reasons: dict[str, list[TaskAudit]] = {}
        for one in self.not_audited:
            reasons.setdefault(one.problem or "", []).append(one)
        for why, tasks in reasons.items():
            yield from _listed(f"not audited: {why}", tasks)
        if self.survivors:
            yield f"{counted(len(self.survivors), 'wrong solution')} accepted:"
        for audit, mutant in self.survivors:
            change = f": {mutant.change[:_LONGEST_CHANGE]}" if mutant.change else ""
            yield f"  {audit.dataset} {audit.task_id}: {mutant.name}{change}"
        if self.excepted:
            yield f"{counted(len(self.excepted), 'wrong solution')} accepted by reviewed exceptions"
        for unused in self.unused:
            yield f"an exception is about no accepted mutant: {unused.task}: {unused.mutant}"
        rate = self.grader_kill
        total = self.killed + len(self.survivors)
        shown = "n/a (no wrong solution was judged)" if rate is None else f"{rate:.3f}"
        yield f"grader_kill {shown}: {self.killed:,} of {total:,} wrong solutions refused"

    def _names(self) -> list[str]:
        return list(dict.fromkeys(one.dataset for one in self.audits))

    def _of(self, dataset: str) -> dict[str, Any]:
        """Return the counts of one dataset, exceptions apart."""
        of_it = [one for one in self.audits if one.dataset == dataset]
        killed = sum(tally.killed for tally in kills(of_it).values())
        accepted = sum(audit.dataset == dataset for audit, _ in self.survivors)
        return {
            "tasks": len(of_it),
            "killed": killed,
            "accepted": accepted,
            "grader_kill": _share(killed, accepted),
        }

    def _by_dataset(self) -> Iterator[str]:
        for name in self._names():
            one = self._of(name)
            yield (
                f"{name}: {counted(one['tasks'], 'task')}, "
                f"{one['killed']:,} of {one['killed'] + one['accepted']:,} wrong solutions refused"
            )

    def _by_kind(self) -> Iterator[str]:
        for kind, tally in kills(self.audits).items():
            judged = tally.killed + tally.survived
            notes = []
            if tally.refused:
                notes.append(f"{tally.refused:,} refused by tools")
            if tally.equal:
                notes.append(f"{tally.equal:,} as good as right")
            beside = f" ({', '.join(notes)})" if notes else ""
            yield f"  {kind.value:<8}{tally.killed:>5,} of {judged:>5,} refused{beside}"


def _share(killed: int, accepted: int) -> float | None:
    return killed / (killed + accepted) if killed + accepted else None


def _listed(title: str, tasks: Sequence[TaskAudit]) -> Iterator[str]:
    if tasks:
        yield f"{title}: {counted(len(tasks), 'task')}"
        yield from (f"  {one.dataset} {one.task_id}" for one in tasks)


def _task(audit: TaskAudit) -> dict[str, Any]:
    return {"dataset": audit.dataset, "task": audit.task_id, "malicious": audit.malicious}


def _mutant(audit: TaskAudit, mutant: Mutant) -> dict[str, Any]:
    return {**_task(audit), "mutant": mutant.name, "change": mutant.change}
