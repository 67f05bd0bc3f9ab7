"""Whether an item passes, and how that is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_siren.evaluation.finish import UNFINISHED
from pytest_siren.evaluation.run import RunOutcome, Status
from pytest_siren.jobs.naming import run_directory
from pytest_siren.jobs.records import Result
from pytest_siren.payloads import RunInfo
from pytest_siren.session.paths import shown
from pytest_siren.session.text import printable
from pytest_siren.spec.passwhen import PassWhen

if TYPE_CHECKING:
    from pytest_siren.session.items import RunItem

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
