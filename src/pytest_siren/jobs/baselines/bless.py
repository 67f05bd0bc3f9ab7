"""Makes baseline files of jobs, and lists the changes to existing ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.jobs.baselines.files import (
    CONFIGURATION,
    BaselineError,
    default_name,
    lines_of,
    raw_lines,
)

Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class BaselineUpdate:
    """A baseline file to be written."""

    path: Path
    lines: Lines
    exists: bool
    changes: tuple[str, ...]
    """The changes to the existing file, in a line each."""

    @property
    def runs(self) -> int:
        return sum("task" in line for line in self.lines)

    @property
    def scored(self) -> int:
        return sum(line.get("status") == "scored" for line in self.lines)


def incomplete(runs: pd.DataFrame, planned: Mapping[str, int]) -> list[str]:
    """Return a line for each job without all its scores."""
    lines = []
    counts = pd.crosstab(runs["job"].astype(str), runs["status"].astype(str))
    for job in dict.fromkeys([*planned, *counts.index]):
        found = dict(counts.loc[job]) if job in counts.index else {}
        total = planned.get(job, sum(found.values()))
        scored = found.pop("scored", 0)
        if scored >= total:
            continue
        left = {**found, "pending": total - scored - sum(found.values())}
        parts = ", ".join(f"{count:,} {what}" for what, count in left.items() if count > 0)
        lines.append(f"{Path(job).name}: only {scored:,} of {total:,} runs are scored ({parts})")
    return lines


def baseline_updates(runs: pd.DataFrame, folder: Path, file: Path | None) -> list[BaselineUpdate]:
    """Return the files to write for ``runs``: one, or one for each dataset, attack and model.

    Raises ``BaselineError`` when a configuration holds the same run twice.
    """
    if file is not None:
        return [_blessing(file, runs)]
    configurations = runs[list(CONFIGURATION)].drop_duplicates().astype(object)
    named: dict[str, list[str]] = {}
    for values in configurations.to_dict("records"):
        known = {str(key): None if pd.isna(value) else value for key, value in values.items()}
        named.setdefault(default_name(known), []).append(str(values["identity"]))
    identity = runs["identity"].astype(str)
    return [
        _blessing(folder / name, runs[identity.isin(identities)])
        for name, identities in sorted(named.items())
    ]


def _blessing(path: Path, runs: pd.DataFrame) -> BaselineUpdate:
    lines = lines_of(runs)
    if not os.path.exists(path):
        return BaselineUpdate(path, lines, exists=False, changes=())
    try:
        before = raw_lines(path)
    except BaselineError as error:
        return BaselineUpdate(path, lines, exists=True, changes=(f"unreadable so far: {error}",))
    return BaselineUpdate(path, lines, exists=True, changes=tuple(_changes(before, lines)))


def _changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    old, new = _by_configuration(before), _by_configuration(after)
    lines = []
    for name in sorted({*old, *new}):
        (was, old_runs), (now, new_runs) = old.get(name, ({}, {})), new.get(name, ({}, {}))
        if not was or not now:
            lines.append(f"{name}: {'added' if now else 'removed'}")
            continue
        if was.get("identity") != now.get("identity"):
            lines.append(
                f"{name}: another configuration: {was.get('identity')} -> {now.get('identity')}"
            )
        for run in sorted({*old_runs, *new_runs}):
            one, other = old_runs.get(run), new_runs.get(run)
            if one != other:
                lines.append(f"{name}: {run[0]} run {run[1]}: {_outcome(one)} -> {_outcome(other)}")
    return lines


def _by_configuration(
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[Mapping[str, Any], dict[tuple[str, int], Mapping[str, Any]]]]:
    """Return name of a configuration to its line and to its runs, by task and run index."""
    found: dict[str, tuple[Mapping[str, Any], dict[tuple[str, int], Mapping[str, Any]]]] = {}
    names: dict[Any, str] = {}
    for line in lines:
        number = line.get("configuration")
        if "task" in line:
            run = str(line["task"]), int(line.get("run", 0))
            values = {key: value for key, value in line.items() if key != "configuration"}
            found[names[number]][1][run] = values
        elif number is not None:
            parts = (line.get("dataset"), line.get("attack") or "benign", line.get("model"))
            name = " ".join(str(part) for part in (*parts, line.get("agent")))
            name += "" if name not in found else f" {line.get('identity')}"
            names[number] = name
            found[name] = (line, {})
    return found


def _outcome(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "not there"
    if run.get("status") != "scored":
        return str(run.get("error_type") or run.get("status"))
    parts = {"utility": run.get("benign_score"), "attack": run.get("attack_score")}
    return ", ".join(f"{name} {value:g}" for name, value in parts.items() if value is not None)
