"""Writes recorded runs as log files that AgentDojo's own loader reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.reading.job_config import JobSummary, RecordError, summary_of
from pytest_siren.jobs.reading.read import (
    load_config,
    load_result,
    load_transcript,
)
from pytest_siren.jobs.records.naming import CONFIG_FILE, task_parts
from pytest_siren.jobs.writing.store import deciding
from pytest_siren.models.agentdojo_logs import FORMAT, NO_ATTACK, write_messages
from pytest_siren.records import Result
from pytest_siren.spec.schema import DEFAULT_AGENT

_LEAST_MESSAGES = 2
"""AgentDojo's loader refuses logs with fewer."""


@dataclass
class Exported:
    """What an export came to."""

    files: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Why runs were left out, to their number."""
    problems: list[str] = field(default_factory=list)
    """Records that cannot be read."""


def export_logs(jobs: Sequence[Path], folder: Path) -> Exported:
    """Write a log file for each run of ``jobs`` whose scores are known, at AgentDojo's places.

    These are ``folder/PIPELINE/SUITE/TASK/ATTACK/INJECTION.json``. AgentDojo has one run of each
    couple: further runs go to pipelines of their own, ``PIPELINE-run1`` and so on. A run that
    ended in an error has the scores that AgentDojo gives it: no utility, and a successful attack.
    Raises ``RecordError`` for a job that cannot be read, ``FileExistsError``, and ``OSError``.
    """
    done = Exported()
    for job in jobs:
        config = load_config(job)
        facts = summary_of(job / CONFIG_FILE, config.values)
        for entry in deciding(job, config.identity, done.problems):
            try:
                result = load_result(job / entry.path)
                document = load_transcript(job / entry.path)
                log = _log(result, document, facts, config.values)
            except RecordError as error:
                done.problems.append(str(error))
                continue
            if isinstance(log, str):
                done.left_out[log] += 1
            else:
                _write(_place(folder, log, entry.run_index), log)
                done.files += 1
    return done


def _log(
    result: Result,
    document: Mapping[str, Any],
    facts: JobSummary,
    config: Mapping[str, Any],
) -> dict[str, Any] | str:
    """Return the content of a log, or why there can be none."""
    source = document.get("source") or {}
    imported = source.get("fields") if source.get("format") == FORMAT else None
    scores = _scores(result)
    if isinstance(scores, str):
        return scores
    messages = write_messages(document["messages"], blocks=source.get("blocks", True))
    if len(messages) < _LEAST_MESSAGES and imported is None:
        return "fewer than two messages"
    attacks = document.get("attacks") or {}
    return {
        **(imported or _fields(result, facts, config, scores)),
        "injections": {vector: one["content"] for vector, one in attacks.items()},
        "messages": messages,
    }


def _scores(result: Result) -> tuple[bool, bool] | str:
    """Return utility and security as AgentDojo gives them, or why there are none."""
    if result.status == Status.ERROR:
        return False, True
    if result.status != Status.SCORED:
        return f"{result.status}"
    attacked = result.attack is not None
    if result.benign_score is None or (attacked and result.attack_score is None):
        return "unknown score"
    return result.benign_score >= 1.0, not attacked or (result.attack_score or 0.0) >= 1.0


def _fields(
    result: Result, facts: JobSummary, config: Mapping[str, Any], scores: tuple[bool, bool]
) -> dict[str, Any]:
    benign, *malicious = task_parts(result.task_id, result.attack)
    plain = result.agent == DEFAULT_AGENT
    error = result.exception_info
    dataset = (config.get("dataset") or {}).get("config") or {}
    return {
        "suite_name": facts.suite or facts.dataset,
        "pipeline_name": result.model if plain else f"{result.model}-{result.agent}",
        "user_task_id": benign,
        "injection_task_id": malicious[0] if malicious else None,
        "attack_type": result.attack,
        "error": error and f"{error.exception_type}: {error.exception_message}",
        "utility": scores[0],
        "security": scores[1],
        "duration": result.duration,
        "benchmark_version": dataset.get("version"),
        "evaluation_timestamp": result.started_at.strftime("%Y-%m-%d %H:%M:%S"),
        "agentdojo_package_version": _package(),
    }


def _package() -> str:
    """Return the installed version: a log without one is taken for one without blocks."""
    try:
        return version("agentdojo")
    except PackageNotFoundError:
        return "unknown"


def _place(folder: Path, log: Mapping[str, Any], run_index: int) -> Path:
    pipeline = str(log["pipeline_name"]) + (f"-run{run_index}" if run_index else "")
    parts = (
        pipeline,
        log["suite_name"],
        log["user_task_id"],
        log["attack_type"] or NO_ATTACK,
        f"{log['injection_task_id'] or NO_ATTACK}.json",
    )
    return folder.joinpath(*(_safe(str(part)) for part in parts))


def _safe(name: str) -> str:
    """Return ``name`` as AgentDojo names its folders, which must not lead elsewhere."""
    return name.replace("/", "_").replace("\0", "_").lstrip(".") or "_"


def _write(path: Path, log: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        json.dump(log, file, indent=4)
