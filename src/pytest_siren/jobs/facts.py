"""What tables call the parts of a job, from its configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_siren.jobs.document import RecordError, load_document, one_line
from pytest_siren.jobs.records import CONFIG_FILE, SCHEMA_VERSION
from pytest_siren.jobs.settings import check_settings

_NAMES = re.compile(rb"^(?:dataset_name|model_label|attack_name|identity):", re.MULTILINE)
_BODY = re.compile(
    rb"^((?:dataset|agent|attack):\n  type: [^\n]*\n)(?:(?:[ \t][^\n]*)?\n)*", re.MULTILINE
)
DECIDED = re.compile(r"(?:benign|attack)_pass[@^][1-9][0-9]{0,4}")
"""A measure by which tasks may end early."""


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
    not_needed: int = 0
    """Those of them that nobody needs."""
    decided: str | None = None
    """Measures by which its tasks may have ended early, as in ``metrics/runs.py``."""


def job_facts(job: Path) -> JobFacts:
    """Return the facts of the job in the folder ``job``, which prompt-siren may have written.

    Raises ``RecordError`` when its configuration is missing, damaged or of a newer version.
    """
    path = job / CONFIG_FILE
    return facts_of(path, load_document(path, _outline))


def type_facts(job: Path) -> JobFacts:
    """Return the facts of ``job`` with the names that prompt-siren's tables have.

    The dataset goes by its type, and an attack by its type and variant. Raises as ``job_facts``.
    """
    path = job / CONFIG_FILE
    values = load_document(path)
    facts = facts_of(path, values)
    attack = None if facts.attack is None else _typed_attack(_part(path, values, "attack"))
    return replace(facts, dataset=str(_part(path, values, "dataset")["type"]), attack=attack)


def facts_of(path: Path, values: Mapping[str, Any]) -> JobFacts:
    """Return the facts that the ``values`` of the configuration ``path`` tell; as ``job_facts``."""
    version = values.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version is {version!r}, this version of pytest-siren reads "
            f"{SCHEMA_VERSION}: update pytest-siren"
        )
    try:
        settings = check_settings(values)
    except ValidationError as error:
        raise RecordError(f"{path}: {one_line(error)}") from error
    dataset, agent = _part(path, values, "dataset"), _part(path, values, "agent")
    attacked = values.get("attack") and values.get("execution_mode") != "benign"
    attack = _part(path, values, "attack") if attacked else None
    suite = _suite(values, dataset)
    return JobFacts(
        dataset=str(values.get("dataset_name") or _dataset_name(dataset, suite)),
        suite=suite,
        agent=str(agent["type"]),
        model=str(values.get("model_label") or _model_label(agent)),
        model_kind=str(values.get("model_kind") or _model_kind(agent)),
        attack=None if attack is None else _attack_name(values, attack),
        identity=str(values.get("identity") or _identity(dataset, agent, attack)),
        planned=settings.planned_runs,
        not_needed=settings.not_needed or 0,
        decided=_decided(path, values),
    )


def not_needed(values: Mapping[str, Any]) -> int:
    """Return how many planned runs nobody needs, by the values of a job's configuration."""
    return check_settings(values).not_needed or 0


def decided_of(names: Any) -> str | None:
    """Return a list of measures as ``metrics/runs.py`` has them. Raises ``ValueError``."""
    if names is None:
        return None
    if not isinstance(names, list) or not all(_is_measure(name) for name in names):
        # To pass over it would be to tell biased rates.
        raise ValueError(f"decided is {names!r}, not a list of measures such as attack_pass@5")
    return " ".join(sorted(map(str, names))) or None


def _is_measure(name: Any) -> bool:
    return isinstance(name, str) and DECIDED.fullmatch(name) is not None


def _decided(path: Path, values: Mapping[str, Any]) -> str | None:
    try:
        return decided_of(values.get("decided"))
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from error


def _outline(data: bytes) -> bytes:
    """Return a configuration without the parts' own ones, if it holds the names made of them.

    The latter may hold 100,000 tasks. Within them no line of YAML begins without a space.
    """
    return _BODY.sub(rb"\1", data) if len(set(_NAMES.findall(data))) == 4 else data


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
    variant = _variant(attack)
    return f"{attack['type']}_{variant}" if variant else str(attack["type"])


def _typed_attack(attack: Mapping[str, Any]) -> str:
    variant = _variant(attack)
    if variant is None and attack["type"] == "template_string":
        variant = "default"  # as its short name is there
    return f"{attack['type']}_{variant}" if variant else str(attack["type"])


def _variant(attack: Mapping[str, Any]) -> str | None:
    """Return the suffix by which prompt-siren tells attacks of one type apart."""
    config = attack["config"]
    found = config.get("variant_name") or config.get("template_short_name")
    return None if found is None else str(found)


def _identity(*parts: Mapping[str, Any] | None) -> str:
    """Return a hash that is the same for jobs with the same dataset, agent and attack."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
