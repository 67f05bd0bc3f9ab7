"""One run as one pytest item, and whether it passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.evaluation.finish import UNFINISHED
from pytest_siren.evaluation.run import RunOutcome
from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.records.naming import run_directory
from pytest_siren.jobs.records.schema import Result
from pytest_siren.payloads import RunInfo
from pytest_siren.session.config.stash import EVALUATIONS
from pytest_siren.session.items.job import Job, task_id
from pytest_siren.session.items.report import RunErrorError, RunFailedError
from pytest_siren.spec.envelope import PassWhen
from pytest_siren.spec.jobspec import run_identity
from pytest_siren.text.paths import shown
from pytest_siren.text.printable import printable

if TYPE_CHECKING:
    from pytest_siren.evaluation.tasks import BenignTask, MaliciousTask


class RunItem(pytest.Item):
    """A benign task or couple, run once."""

    job: Job
    benign: BenignTask
    malicious: MaliciousTask | None
    run_index: int
    reported: bool = False
    """Whether pytest has asked for its outcome before, in this session."""
    needed: bool = True
    """Whether it is to be executed; not where records of other runs have made it needless."""

    @classmethod
    def of(
        cls,
        parent: pytest.Collector,
        job: Job,
        benign: BenignTask,
        malicious: MaliciousTask | None,
        run_index: int,
    ) -> RunItem:
        """Make the item, with a node id that only the configuration decides."""
        name = visible(f"{task_id(benign, malicious)}[{job.label}-run{run_index}]")
        # In a text, pytest takes the brackets for parameters, as it does when it reads its cache.
        item: RunItem = cls.from_parent(parent, name=name, nodeid=f"{parent.nodeid}::{name}")
        item.job, item.benign, item.malicious, item.run_index = job, benign, malicious, run_index
        return item

    @property
    def identity(self) -> str:
        """Hash of the job's configuration, the task and the run index."""
        return run_identity(self.job.identity, task_id(self.benign, self.malicious), self.run_index)

    @property
    def run_key(self) -> tuple[str, str, int]:
        """Identity of the job, id of the task, and run index."""
        return self.job.identity, task_id(self.benign, self.malicious), self.run_index

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        """Yield the markers; no plugin finds ``flaky``, which asks for tests to be repeated."""
        return iter(()) if name == "flaky" else super().iter_markers_with_node(name)

    def runtest(self) -> None:
        """Raise what the run came to, unless it passes. It has been executed already."""
        self.config.stash[EVALUATIONS].tell(self)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return one line for what a run came to, and a traceback for everything else."""
        if isinstance(excinfo.value, RunFailedError | RunErrorError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def visible(name: str) -> str:
    """Return ``name`` with every character that does not print spelled out."""
    if name.isprintable():
        return name
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in name
    )


_QUOTE = 48


def judge(pass_when: PassWhen, outcome: RunOutcome, *, attacked: bool) -> bool | None:
    """Return whether the item passes; ``None`` when it was not scored or the score is unknown."""
    if outcome.status is not Status.SCORED:
        return None
    return pass_when.holds(attacked, outcome.benign_score, outcome.attack_score)


def describe(item: RunItem, run: RunInfo, result: Result) -> str:
    """Say what was asked, what came of it, and where the record lies."""
    record = _record(item.config.rootpath, run, result)
    if result.exception_info is not None:
        error = result.exception_info
        said = printable(error.exception_message, 200)
        won = "; the attacker's goal was reached before" if result.goal_reached else ""
        return f"{printable(error.exception_type, 80)}: {said}{won}; record {record}"
    if result.passed is None:
        reasons = (result.benign_unknown, result.attack_unknown)
        why = printable(next((reason for reason in reasons if reason), "no score"), 200)
        return f"unknown: {why}{_finish_reason(result)}; record {record}"
    asked = f'asked "{printable(item.benign.prompt, _QUOTE)}"'
    if item.malicious is None:
        answer = printable(result.output, _QUOTE)
        got = f'answered "{answer}" (benign_score {_score(result.benign_score)})'
    else:
        goal = printable(item.malicious.goal, _QUOTE)
        won = "attacker got" if result.attack_score == 1.0 else "attacker wanted"
        got = (
            f'{won} "{goal}" (attack_score {_score(result.attack_score)}, '
            f"benign_score {_score(result.benign_score)})"
        )
    return f"{asked}; {got}; record {record}"


def _finish_reason(result: Result) -> str:
    """Return the provider's own word, where the answer did not come to an end."""
    if result.finish_reason is None or result.finish not in UNFINISHED:
        return ""
    return f" (finish reason {printable(result.finish_reason, 40)})"


def _score(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _record(root: Path, run: RunInfo, result: Result) -> str:
    folder = run_directory(run.task_id, run.job.attack, result.run_id)
    return printable(str(shown(run.job.path, root) / folder), 400)
