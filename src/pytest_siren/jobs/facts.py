"""What tables call the parts of a job, from its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pytest_siren.jobs.read import RecordError, load_document
from pytest_siren.jobs.records import CONFIG_FILE, SCHEMA_VERSION


@dataclass(frozen=True)
class JobFacts:
    """Names of the parts of a job."""

    dataset: str
    suite: str | None
    agent: str
    model: str
    model_kind: str
    attack: str | None
    identity: str
    planned: int | None
    """Runs that were selected; ``None`` where it is not recorded."""


def job_facts(job: Path) -> JobFacts:
    """Return the facts of the job in the folder ``job``, which prompt-siren may have written.

    Raises ``RecordError`` when its configuration is missing, damaged or of a newer version.
    """
    path = job / CONFIG_FILE
    values = load_document(path)
    version = values.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version is {version!r}, this version of pytest-siren reads "
            f"{SCHEMA_VERSION}: update pytest-siren"
        )
    dataset, agent = _part(path, values, "dataset"), _part(path, values, "agent")
    attack = _part(path, values, "attack") if values.get("attack") else None
    suite = _suite(values, dataset)
    planned = values.get("planned_runs")
    return JobFacts(
        dataset=str(values.get("dataset_name") or _dataset_name(dataset, suite)),
        suite=suite,
        agent=str(agent["type"]),
        model=str(values.get("model_label") or _model_label(agent)),
        model_kind=str(values.get("model_kind") or _model_kind(agent)),
        attack=None if attack is None else _attack_name(values, attack),
        identity=str(values.get("identity") or _identity(dataset, agent, attack)),
        planned=planned if isinstance(planned, int) else None,
    )


def _part(path: Path, values: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = values.get(key)
    if not isinstance(part, Mapping) or not part.get("type"):
        raise RecordError(f"{path}: {key} has no type, so it is not the configuration of a job")
    config = part.get("config")
    return {"type": part["type"], "config": config if isinstance(config, Mapping) else {}}


def _suite(values: Mapping[str, Any], dataset: Mapping[str, Any]) -> str | None:
    if "dataset_suite" in values:
        found = values["dataset_suite"]
    else:
        found = dataset["config"].get("suite_name", dataset["config"].get("suite"))
    return None if found is None else str(found)


def _dataset_name(dataset: Mapping[str, Any], suite: str | None) -> str:
    kind = str(dataset["type"])
    if kind == "inline":
        return str(dataset["config"].get("name") or kind)
    return f"{kind}-{suite}" if suite else kind


def _model_label(agent: Mapping[str, Any]) -> str:
    model = str(agent["config"].get("model") or "unknown")
    kind, _, rest = model.partition(":")
    return f"{kind}:{Path(rest).name}" if kind == "replay" else model


def _model_kind(agent: Mapping[str, Any]) -> str:
    kind = str(agent["config"].get("model") or "").partition(":")[0]
    return kind if kind in ("replay", "control") else "model"


def _attack_name(values: Mapping[str, Any], attack: Mapping[str, Any]) -> str:
    if values.get("attack_name"):
        return str(values["attack_name"])
    # prompt-siren tells presets of one type apart by a suffix.
    variant = attack["config"].get("variant_name")
    return f"{attack['type']}_{variant}" if variant else str(attack["type"])


def _identity(*parts: Mapping[str, Any] | None) -> str:
    """Return a hash that is the same for jobs with the same dataset, agent and attack."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
