"""Baseline files: the scores of jobs, small enough to be reviewed and kept in a repository.

``docs/reference/baseline.md`` explains every field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.jobs.reading.job_config import decided_of
from pytest_siren.jobs.records.naming import sanitise, task_parts
from pytest_siren.jobs.writing.write import make_folder, write_lines
from pytest_siren.metrics.frame import COLUMNS, INTEGERS, table
from pytest_siren.records import MOST_COUNT
from pytest_siren.yamlpos.reader import read_bytes

SCHEMA_VERSION = 1
_EARLY_VERSION = 2
"""Version of files with a configuration whose tasks may have ended early: an older reader
would compare a biased sample."""
SUFFIX = ".baseline.jsonl"
CONFIGURATION = ("dataset", "suite", "agent", "model", "model_kind", "attack", "identity")
"""Columns that all runs of one configuration share."""
_OPTIONAL = ("suite", "attack")
_STATUSES = ("scored", "error", "cancelled")

Line = Mapping[str, Any]


class BaselineError(ValueError):
    """A baseline cannot be read or made."""


def lines_of(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the lines of the baseline file of ``runs``, a table of ``metrics/frame.py``.

    They depend on nothing but configurations, scores and statuses. Raises ``BaselineError`` when a
    configuration holds the same run twice.
    """
    version = _EARLY_VERSION if runs["decided"].notna().any() else SCHEMA_VERSION
    lines: list[dict[str, Any]] = [{"baseline": "pytest-siren", "schema_version": version}]
    groups = runs.groupby(list(CONFIGURATION), observed=True, dropna=False, sort=False)
    sides = [
        ({name: _known(value) for name, value in zip(CONFIGURATION, key, strict=True)}, group)
        for key, group in groups
    ]
    sides.sort(key=lambda side: [str(value or "") for value in side[0].values()])
    for number, (configuration, group) in enumerate(sides):
        names = {name for one in group["decided"].dropna().unique() for name in str(one).split()}
        early = {"decided": sorted(names)} if names else {}
        lines.append({"configuration": number, **configuration, **early})
        lines += sorted(_runs(number, group), key=lambda line: (line["task"], line["run"]))
    return lines


def write_baseline(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a baseline file, whole or not at all. Raises ``OSError``."""
    make_folder(path.parent)
    write_lines(path, lines)


def read_baseline(path: Path) -> pd.DataFrame:
    """Return the table of runs that a baseline file holds. Raises ``BaselineError``.

    The file's path takes the place of the job's. Tokens, cost and duration are not in the file:
    they are 0 or NaN, and ``attempts`` and ``unpriced`` are 0.
    """
    configurations: dict[int, Line] = {}
    rows: list[dict[str, Any]] = []
    seen: set[tuple[int, str, int]] = set()
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            if "task" not in line:
                _add(configurations, line)
                continue
            owner = _count(line, "configuration")
            if owner not in configurations:
                raise ValueError(f"no configuration {owner} precedes it")
            row = _row(configurations[owner], line)
        except KeyError as error:
            raise BaselineError(f"{where}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise BaselineError(f"{where}: {error}") from error
        key = owner, row["task_id"], row["run_index"]
        if key in seen:
            raise BaselineError(f"{where}: run {key[2]} of {key[1]} occurs twice")
        seen.add(key)
        rows.append({**row, "job": str(path)})
    return table({name: [row.get(name) for row in rows] for name in COLUMNS})


def _add(configurations: dict[int, Line], line: Line) -> None:
    number = _count(line, "configuration")
    if number in configurations:
        raise ValueError(f"configuration {number} occurs twice")
    for name in CONFIGURATION:
        value = line[name]
        if not ((isinstance(value, str) and value) or (value is None and name in _OPTIONAL)):
            raise ValueError(f"the configuration's {name} is {value!r}, not a text")
    decided_of(line.get("decided"))
    configurations[number] = line


def _count(line: Line, name: str) -> int:
    value = line[name]
    if type(value) is not int or not 0 <= value <= MOST_COUNT:
        raise ValueError(f"{name} is {str(value)[:60]!r}, no count of 0 or more")
    return value


def raw_lines(path: Path) -> list[Line]:
    """Return the lines of a baseline file. Raises ``BaselineError``, also where one is no run."""
    read_baseline(path)
    return [line for _, line in _lines(path)]


def default_name(configuration: Line) -> str:
    """Return ``<dataset>_<attack or benign>_<model>.baseline.jsonl``."""
    parts = configuration["dataset"], configuration["attack"] or "benign", configuration["model"]
    return "_".join(sanitise(str(part))[:60] or "unnamed" for part in parts) + SUFFIX


def _runs(number: int, group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    seen: dict[tuple[str, int], str] = {}
    columns = ("task_id", "run_index", "status", "benign_score", "attack_score", "error_type")
    names = (*columns, "job")
    for values in zip(*(group[name] for name in names), strict=True):
        run = dict(zip(names, values, strict=True))
        task, index = str(run["task_id"]), int(run["run_index"])
        if (task, index) in seen:
            raise BaselineError(
                f"{seen[task, index]} and {run['job']} have the same configuration, and both hold "
                f"run {index} of {task}: bless one of them"
            )
        seen[task, index] = str(run["job"])
        yield {
            "configuration": number,
            "task": task,
            "run": index,
            "status": str(run["status"]),
            **{
                name: _known(run[name])
                for name in ("benign_score", "attack_score", "error_type")
                if _known(run[name]) is not None
            },
        }


def _known(value: Any) -> Any:
    return None if pd.isna(value) else value


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    """Yield the lines after the first one, each with its 1-based number."""
    try:
        text = read_bytes(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{path}: cannot be read: {error}") from error
    first = True
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BaselineError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise BaselineError(f"{path}:{number}: not a mapping of fields to values")
        if not first:
            yield number, content
        elif content.get("baseline") != "pytest-siren":
            break
        elif content.get("schema_version") not in (SCHEMA_VERSION, _EARLY_VERSION):
            raise BaselineError(
                f"{path}: schema_version is {content.get('schema_version')!r}, this version of "
                f"pytest-siren reads {SCHEMA_VERSION} and {_EARLY_VERSION}: update pytest-siren, "
                "or bless again"
            )
        else:
            first = False
    if first:
        raise BaselineError(f"{path}: not a baseline file (made by: siren bless JOB)")


def _row(configuration: Line, line: Line) -> dict[str, Any]:
    task, status, attack = line["task"], line["status"], configuration["attack"]
    if not isinstance(task, str) or not task:
        raise ValueError(f"task is {task!r}, not a text")
    if status not in _STATUSES:
        raise ValueError(f"unknown status {status!r}; known are {', '.join(_STATUSES)}")
    error_type = line.get("error_type")
    if not (error_type is None or isinstance(error_type, str)):
        raise ValueError(f"error_type is {error_type!r}, not a text")
    parts = task_parts(task, attack)
    return {
        **{name: configuration[name] for name in CONFIGURATION},
        **dict.fromkeys(INTEGERS, 0),
        "task_id": task,
        "benign_task": parts[0],
        "malicious_task": parts[1] if len(parts) == 2 else None,
        "vectors": "",
        "run_index": _count(line, "run"),
        "decided": decided_of(configuration.get("decided")),
        "status": status,
        "benign_score": _score(line, "benign_score"),
        "attack_score": _score(line, "attack_score"),
        "error_type": error_type,
    }


def _score(line: Line, name: str) -> float | None:
    value = line.get(name)
    if value is None:
        return None
    is_score = type(value) in (int, float) and 0.0 <= value <= 1.0
    if line["status"] != "scored" or not is_score:
        raise ValueError(f"{name} {value!r} is no score from 0 to 1 of a scored run")
    return float(value)
