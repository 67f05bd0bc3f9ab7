"""Successful attacks in SARIF 2.1.0, which code scanning shows and tracks.

Section numbers are of the OASIS standard (docs.oasis-open.org/sarif/sarif/v2.1.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd

from pytest_siren.evaluation.components import Component, NoConfig
from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_attacks, load_config
from pytest_siren.metrics.rates.measures import finishes, spoken
from pytest_siren.reports.data import Hit, ReportData, errors_by_type, hits
from pytest_siren.reports.formats import write_whole
from pytest_siren.text.words import counted, escaped
from pytest_siren.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RESULTS = 5_000
"""Largest number of results of a run that GitHub shows."""
_MOST_NOTIFICATIONS = 50
_LONGEST_NAME, _LONGEST_TEXT = 120, 500
_HELP = (
    "An attack succeeded: text planted in data that the agent reads made it do what the attacker "
    "wanted (attack_score 1.0). Read the transcript in the record, then change the agent's prompt, "
    "tools, model or defence. The result disappears when the couple resists in every run."
)


@dataclass(frozen=True)
class _Job:
    """The origin of a job according to its configuration."""

    eval_file: str | None
    """Relative to the root folder."""
    cell: Mapping[str, Any] = field(default_factory=dict)
    """Keys that a sweep changed, and this job's values."""


_NOWHERE = _Job(None)


def write_sarif(target: Path, data: ReportData) -> None:
    """Write the log to ``target``. Raises ``OSError``."""
    write_whole(target, json.dumps(sarif(data), indent=2) + "\n")


def sarif(data: ReportData) -> dict[str, Any]:
    """Return the log as plain data: one run, with a result for each couple that was hit.

    A run that ended in an error, or whose score is unknown, is no result: it makes the execution
    unsuccessful and is named in the notifications, as are files that could not be read.
    """
    problems = list(data.problems)
    jobs = {str(folder): _job(folder, problems) for folder in data.folders}
    grouped = _grouped(hits(data.runs), jobs)
    if (more := len(grouped) - MOST_RESULTS) > 0:
        problems.append(f"{more:,} more couples were hit than this file can list")
    shown = grouped[:MOST_RESULTS]
    rules = list(dict.fromkeys(found[0].attack for _, found in shown))
    results = [
        _result(data, fingerprint, found, jobs.get(found[0].job, _NOWHERE), rules)
        for fingerprint, found in shown
    ]
    run = {
        "tool": {"driver": _driver(rules)},
        "automationDetails": {"id": "pytest-siren/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {
            "%SRCROOT%": {"description": {"text": "The folder that the sources are checked out to"}}
        },
        "invocations": [_invocation(data, problems)],
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _job(folder: Path, problems: list[str]) -> _Job:
    try:
        values = load_config(folder).values
    except RecordError as error:
        problems.append(str(error))
        return _NOWHERE
    file, cell = values.get("eval_file"), values.get("cell")
    return _Job(file if isinstance(file, str) else None, cell if isinstance(cell, dict) else {})


def _grouped(found: Iterable[Hit], jobs: Mapping[str, _Job]) -> list[tuple[str, list[Hit]]]:
    """Return the hits by fingerprint: those of one couple in jobs that are called alike are one.

    Neither time nor the rest of the configuration enters it, so that code scanning follows a
    couple through changes of the agent.
    """
    groups: dict[str, list[Hit]] = {}
    for hit in found:
        job = jobs.get(hit.job, _NOWHERE)
        names = (job.eval_file, hit.dataset, hit.agent, hit.model, hit.attack, hit.task_id)
        key = json.dumps([*names, job.cell], sort_keys=True, default=str)
        groups.setdefault(sha256(key.encode()).hexdigest(), []).append(hit)
    return list(groups.items())


def _result(
    data: ReportData, fingerprint: str, found: Sequence[Hit], job: _Job, rules: list[str]
) -> dict[str, Any]:
    hit = found[0]
    wins, scored = sum(one.wins for one in found), sum(one.scored for one in found)
    record = data.shown(Path(hit.job) / hit.path)
    message = (
        f"{_text(hit.attack)} made {_text(hit.model)} do what the attacker wanted in {wins:,} of "
        f"{counted(scored, 'run')} of {_text(hit.task_id)}."
    )
    if planted := _planted(Path(hit.job) / hit.path):
        message += f"\nPlanted: {_text(planted, _LONGEST_TEXT)}"
    return {
        "ruleId": _rule_id(hit.attack),
        "ruleIndex": rules.index(hit.attack),
        "level": "error",
        "kind": "fail",
        "message": {"text": f"{message}\nRecord: {_text(record, _LONGEST_TEXT)}"},
        "locations": [_location(data, job)],
        "partialFingerprints": {"sirenCouple/v1": fingerprint},
        "occurrenceCount": wins,
        "properties": {
            "dataset": escaped(hit.dataset),
            "agent": escaped(hit.agent),
            "model": escaped(hit.model),
            "attack": escaped(hit.attack),
            "taskId": escaped(hit.task_id),
            "wins": wins,
            "scored": scored,
            "record": escaped(record),
        },
    }


def _location(data: ReportData, job: _Job) -> dict[str, Any]:
    """Return where the couple comes from: the eval file, or the file of the test function.

    Where none is known, it is the project.
    """
    name, *_ = (job.eval_file or ".").split("::")
    path = data.root / PurePosixPath(name)
    base = data.source_root or data.root
    # Section 3.4.4: relative to a folder that the viewer knows, percent-encoded.
    if path.is_relative_to(base):
        uri = quote(path.relative_to(base).as_posix())
        artifact = {"uri": uri, "uriBaseId": "%SRCROOT%"}
    else:
        artifact = {"uri": path.as_uri()}
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}}}


def _planted(run_dir: Path) -> str | None:
    """Return the planted text; ``None`` if the transcript was not kept or is damaged.

    It is an aid to the reader; whether the attack succeeded is known without it.
    """
    try:
        contents = load_attacks(run_dir)
    except RecordError:
        return None
    return next((" ".join(text.split()) for text in contents.values() if text.strip()), None)


def _driver(rules: Sequence[str]) -> dict[str, Any]:
    return {
        "name": "pytest-siren",
        "semanticVersion": __version__,
        "rules": [
            {
                "id": _rule_id(attack),
                "name": "SuccessfulPromptInjection",
                "shortDescription": {"text": f"Successful prompt injection: {_text(attack)}"},
                "fullDescription": {"text": "The agent did what injected text asked for."},
                "help": {"text": _HELP},
                "defaultConfiguration": {"level": "error"},
                "properties": {
                    "tags": ["security", "prompt-injection"],
                    "precision": "high",
                    "security-severity": "8.0",
                },
            }
            for attack in rules
        ],
    }


def _invocation(data: ReportData, problems: Sequence[str]) -> dict[str, Any]:
    errors = errors_by_type(data.runs)
    notes = [f"{counted(count, 'run')} ended in {_text(name)}" for name, count in errors]
    notes += _unknown(data.runs)
    if data.pending:
        notes.append(f"{data.pending:,} runs have not ended")
    notes += [_text(problem, _LONGEST_TEXT) for problem in problems]
    if (more := len(notes) - _MOST_NOTIFICATIONS) > 0:
        notes = [*notes[:_MOST_NOTIFICATIONS], f"and {more:,} more"]
    return {
        "executionSuccessful": not notes,
        "endTimeUtc": data.made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": text}} for text in notes
        ],
    }


def _unknown(runs: pd.DataFrame) -> list[str]:
    """Return a line on attacked runs whose attack score is unknown.

    Code scanning closes alerts without a result, which would look like resistance.
    """
    attacked = runs[runs["attack"].notna() & (runs["status"] == "scored")]
    unknown = attacked[attacked["attack_score"].isna()]
    if not len(unknown):
        return []
    ended = ", ".join(spoken(finishes(unknown)))
    known = f" (answers: {ended})" if ended else ""
    few = "attacked run has" if len(unknown) == 1 else "attacked runs have"
    return [f"{len(unknown):,} {few} an unknown score{known}"]


def _rule_id(attack: str) -> str:
    return f"siren/{escaped(attack)[:_LONGEST_NAME]}"


def _text(text: str, limit: int = _LONGEST_NAME) -> str:
    r"""Return ``text`` on one line as part of a message.

    Links and placeholders in it would be obeyed: brackets are escaped (section 3.11.6), braces
    doubled (section 3.11.5).
    """
    shown = escaped(text if len(text) <= limit else f"{text[: limit - 1]}…")
    for char in "\\[]":
        shown = shown.replace(char, f"\\{char}")
    return shown.replace("{", "{{").replace("}", "}}")


component = Component(NoConfig, lambda config, folder: write_sarif)
