"""Reads and checks the configuration of a job, and names its parts for tables."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from pytest_siren.jobs.records.naming import CONFIG_FILE
from pytest_siren.records import SCHEMA_VERSION, Count, Name, Number
from pytest_siren.spec.schema import FUNCTION_AGENT
from pytest_siren.text.words import escaped
from pytest_siren.yamlpos.reader import decode_yaml, read_bytes, resolve_dumped

if TYPE_CHECKING:
    import pandas as pd


class RecordError(Exception):
    """A file of a job is missing, damaged, or written by a newer version."""


def load_document(path: Path, part: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    """Return the mapping that the YAML file ``path`` holds. Raises ``RecordError``.

    ``part`` may remove unneeded content before parsing.
    """
    root, problems = decode_yaml(part(read_record(path)), path, resolve_dumped)
    if problems:
        raise RecordError(str(problems[0]))
    values = None if root is None else root.plain()
    if not isinstance(values, dict):
        raise RecordError(f"{path}: not a mapping of fields to values")
    return values


def load_json(path: Path) -> Any:
    """Return what the JSON file ``path``, compressed or not, holds. Raises ``RecordError``."""
    return parse_json(path, read_record(path))


def parse_json(path: Path, data: bytes) -> Any:
    """Return what ``data``, the content of ``path``, holds. Raises ``RecordError``."""
    try:
        return from_json(data)
    except ValueError as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error


def read_record(path: Path) -> bytes:
    """Return the content of ``path``, decompressed. Raises ``RecordError``."""
    try:
        data = read_bytes(path)
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError(f"{path}: not a whole file of gzip: {error}") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error


def one_line(error: Exception) -> str:
    """Return the message and place of ``error`` on one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return " ".join(str(error).split())


class Part(BaseModel):
    """The dataset, agent or attack of a job."""

    model_config = ConfigDict(strict=True)

    type: Name
    config: dict[str, Any] | None = None


class Settings(BaseModel):
    """The keys that readers use; other keys may hold any value."""

    model_config = ConfigDict(strict=True)

    dataset: Part | None = None
    agent: Part | None = None
    attack: Part | None = None
    dataset_name: Name | None = None
    dataset_suite: str | None = None
    model_label: Name | None = None
    model_kind: Name | None = None
    agent_name: Name | None = None
    attack_name: Name | None = None
    identity: Name | None = None
    planned_runs: Count | None = None
    not_needed: Count | None = None
    gate_looks: list[Count] | None = None
    n_runs_per_task: Number | None = None
    sweep_id: str | None = None
    eval_file: Name | None = None
    invocation: dict[str, Any] | None = None
    overrides: list[dict[str, Any]] | None = None
    sources: dict[str, str] | None = None
    cell: dict[str, Any] | None = None


def check_settings(values: Mapping[str, Any]) -> Settings:
    """Return what ``values``, a whole configuration, hold. Raises ``pydantic.ValidationError``."""
    return Settings.model_validate(dict(values))


_NAMES = re.compile(rb"^(?:dataset_name|model_label|attack_name|identity):", re.MULTILINE)
_BODY = re.compile(
    rb"^((?:dataset|agent|attack):\n  type: [^\n]*\n)(?:(?:[ \t][^\n]*)?\n)*", re.MULTILINE
)
LOOKS = "gate_looks"
DECIDED = re.compile(r"(?:benign|attack)_pass[@^][1-9][0-9]{0,4}")
"""A measure by which tasks may end early."""


@dataclass(frozen=True)
class JobSummary:
    """Names of the parts of a job."""

    dataset: str
    suite: str | None
    agent: str
    model: str
    model_kind: str
    attack: str | None
    identity: str
    planned: int | None
    """Runs that were selected; ``None`` if the number is not recorded."""
    not_needed: int = 0
    """The number of them that ``--gate-stop`` skipped."""
    decided: str | None = None
    """Measures by which its tasks may have ended early, as in ``metrics/frame.py``."""
    cell: tuple[tuple[str, str], ...] = ()
    """Keys that its sweep is over, apart from model, agent and attack, with its values of them."""
    runs: int | None = None
    """Runs of each task in the first session."""
    looks: tuple[int, ...] = ()
    """Numbers of ended runs over which gates were evaluated."""


def job_summary(job: Path) -> JobSummary:
    """Return the summary of the job in the folder ``job``, which prompt-siren may have written.

    Raises ``RecordError`` when its configuration is missing, damaged or of a newer version.
    """
    path = job / CONFIG_FILE
    return summary_of(path, load_document(path, _outline))


def job_type_summary(job: Path) -> JobSummary:
    """Return the summary of ``job`` with the names in prompt-siren's tables.

    The dataset has its type as name, an attack its type and variant. Raises as ``job_summary``.
    """
    path = job / CONFIG_FILE
    values = load_document(path)
    facts = summary_of(path, values)
    attack = None if facts.attack is None else _typed_attack(_part(path, values, "attack"))
    return replace(facts, dataset=str(_part(path, values, "dataset")["type"]), attack=attack)


def summary_of(path: Path, values: Mapping[str, Any]) -> JobSummary:
    """Return the summary of a configuration with these ``values``; as ``job_summary``."""
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
    return JobSummary(
        dataset=str(values.get("dataset_name") or _dataset_name(dataset, suite)),
        suite=suite,
        agent=settings.agent_name or _agent_name(settings, agent),
        model=str(values.get("model_label") or _model_label(agent)),
        model_kind=str(values.get("model_kind") or _model_kind(agent)),
        attack=None if attack is None else _attack_name(values, attack),
        identity=str(values.get("identity") or _identity(dataset, agent, attack)),
        planned=settings.planned_runs,
        not_needed=settings.not_needed or 0,
        decided=_decided(path, values),
        cell=tuple((key, str(value)) for key, value in (settings.cell or {}).items()),
        runs=settings.n_runs_per_task,
        looks=tuple(settings.gate_looks or ()),
    )


def _agent_name(settings: Settings, agent: Mapping[str, Any]) -> str:
    """Return the name of a test function that is the agent, or else the agent's type."""
    kind = str(agent["type"])
    config = agent.get("config")
    target = config.get("target") if isinstance(config, Mapping) else None
    function = str(target or settings.eval_file or "").partition("::")[2]
    return function if kind == FUNCTION_AGENT and function else kind


def skipped_runs(values: Mapping[str, Any]) -> int:
    """Return the number of planned runs that were skipped, by the job's configuration."""
    return check_settings(values).not_needed or 0


def decided_of(names: Any) -> str | None:
    """Return a list of measures as ``metrics/frame.py`` has them. Raises ``ValueError``."""
    if names is None:
        return None
    if not isinstance(names, list) or not all(_is_measure(name) for name in names):
        # Ignoring it would bias rates.
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
    """Return a configuration without those of its parts, if it holds the names derived from them.

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
    """Return the suffix by which prompt-siren distinguishes attacks of one type."""
    config = attack["config"]
    found = config.get("variant_name") or config.get("template_short_name")
    return None if found is None else str(found)


def _identity(*parts: Mapping[str, Any] | None) -> str:
    """Return a hash that is the same for jobs with the same dataset, agent and attack."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


OTHERS = "other rates are those of first runs"


def skipped_runs_line(job: str, facts: JobSummary) -> list[str]:
    """Return a note on skipped runs, on one line; none if every run is needed."""
    if not (facts.not_needed or facts.decided):
        return []
    measures = ", ".join((facts.decided or "").split())
    one = f"job {escaped(job)}: "
    if not facts.not_needed:
        return [f"{one}{_may_have(measures)}"]
    counts = f"{facts.not_needed:,} of {facts.planned or 0:,} runs not needed"
    if not measures:
        return [f"{one}{counts} (the gates were settled without them)"]
    return [f"{one}{counts} ({measures} of their tasks was decided); {OTHERS}"]


def baseline_note(runs: pd.DataFrame) -> Iterator[str]:
    """Yield the same note for baseline files, which do not hold the number of skipped runs."""
    early = runs[runs["decided"].notna().to_numpy()]
    pairs = zip(early["job"].astype(str), early["decided"].astype(str), strict=True)
    for file, names in dict.fromkeys(pairs):
        yield f"{escaped(PurePath(file).name)}: {_may_have(', '.join(names.split()))}"


def _may_have(measures: str) -> str:
    return f"its tasks may have ended early, once {measures} was decided; {OTHERS}"
