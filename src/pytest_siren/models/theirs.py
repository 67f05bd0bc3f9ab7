"""Recorded runs of prompt-siren: what they are filed under, which only their job's folder tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.yamlpos.reader import decode_yaml, read_bytes, resolve_dumped

_OURS = ("dataset", "schema_version")


def is_theirs(result: Mapping[str, Any]) -> bool:
    """Whether ``result.json`` was written by prompt-siren, which keeps no names in it."""
    return "task_id" in result and not any(key in result for key in _OURS)


@dataclass(frozen=True)
class TheirJob:
    """What ``config.yaml`` and ``index.jsonl`` of a job of prompt-siren tell of its recordings."""

    scope: str
    attack: str | None
    """As ``siren results`` calls it: type and short name."""
    other_names: tuple[str, ...]
    """What the same attack may be called in an eval file."""
    run_indexes: Mapping[str, int] = field(default_factory=dict)
    """Place of a run within the job's folder to its number among the runs of its task."""


def their_job(folder: Path) -> TheirJob:
    """Return what the job in ``folder`` tells. Raises ``ValueError``, ``OSError``."""
    path = folder / "config.yaml"
    root, _ = decode_yaml(read_bytes(path), path, resolve_dumped)
    values: Any = None if root is None else root.plain()
    try:
        dataset, attack = values["dataset"], values.get("attack")
        if values.get("execution_mode") == "benign":
            attack = None
        config = dataset.get("config") or {}
        scope = config.get("suite_name") or config.get("name") or dataset["type"]
        names = _names(attack) if attack else ()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not the configuration of a job") from error
    return TheirJob(
        scope=str(scope),
        attack=names[0] if names else None,
        other_names=names[1:],
        run_indexes=_run_indexes(folder / "index.jsonl"),
    )


def _names(attack: Mapping[str, Any]) -> tuple[str, ...]:
    kind, config = str(attack["type"]), attack.get("config") or {}
    short = [
        str(config[key])
        for key in ("variant_name", "template_short_name", "attack_name")
        if config.get(key)
    ]
    full = [f"{kind}_{name}" for name in short]
    return tuple(dict.fromkeys([*full, *short, kind]))


def _run_indexes(index: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    seen: dict[str, int] = {}
    for line in read_bytes(index).split(b"\n") if index.exists() else ():
        try:
            entry = json.loads(line)
            task, place = str(entry["task_id"]), str(entry["path"])
        except (ValueError, KeyError, TypeError):
            continue  # it names no recording; readers of the index report it
        if place not in found:
            found[place] = seen.setdefault(task, 0)
            seen[task] += 1
    return found
