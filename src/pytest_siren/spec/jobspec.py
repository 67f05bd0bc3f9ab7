"""What an eval file comes to: one ``JobSpec`` per configuration."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pytest_siren.spec.envelope import PassWhen


@dataclass(frozen=True)
class ComponentSpec:
    """A component and what it is to be built with."""

    type: str
    config: BaseModel
    """Validated by the component's own schema."""
    raw: Mapping[str, Any]
    """What ``config`` was made of, as JSON-able data: variables filled in, defaults not."""


@dataclass(frozen=True)
class AttackSpec(ComponentSpec):
    """An attack with the name that tables, node ids and ``--attack`` call it by."""

    name: str


@dataclass(frozen=True)
class JobSpec:
    """One configuration: a dataset, an agent on a model, and an attack or none."""

    source: Path
    base: Path
    """Folder of the eval file; relative paths in configs start from it."""
    name: str | None
    dataset: ComponentSpec
    agent: ComponentSpec
    """Its config has the model filled in, where its schema has a key ``model``."""
    model: str
    attack: AttackSpec | None
    malicious_as_benign: bool
    """Whether a job without an attack runs malicious tasks too, as if the user had asked."""
    task_ids: tuple[str, ...] | None
    """Not yet compared with the dataset; ``None`` is all of them."""
    runs: int
    usage_limits: Mapping[str, Any]
    """Keyword arguments of ``pydantic_ai.usage.UsageLimits``."""
    concurrency: int
    pass_when: PassWhen
    finish: Mapping[str, str]
    """Ways in which an answer may end to what becomes of its run, where that is not the default."""
    tags: tuple[str, ...]
    gates: tuple[str, ...]
    cell: Mapping[str, str]
    """Keys that ``--set`` sweeps over, each with this job's value as the user wrote it."""
    snapshot: Mapping[str, Any]
    """The whole configuration as JSON-able data, with prompt-siren's keys and ours."""
    warnings: tuple[str, ...]
    """One sentence for every key that is given and has no effect yet; it names the line."""


_LENGTH = 16


def identity(data: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``data`` as canonical JSON.

    Canonical: keys sorted, no spaces, ASCII only. Raises ``TypeError`` for what JSON has no word
    for, and ``ValueError`` for infinity and not-a-number.
    """
    _check(data, "data")
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _hash(text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_LENGTH]


def job_identity(job: JobSpec, sources: Mapping[str, str] | None = None) -> str:
    """Return the identity of the configuration of ``job``.

    Dataset, agent with its model, attack, and what ``finish`` changes enter; how often, how fast,
    within which limits, where and under which labels it runs do not. ``sources`` maps files that
    the configuration only names (tasks, tools, planted contents) to digests of what they hold.
    """
    attack = None if job.attack is None else {**_part(job.attack), "name": job.attack.name}
    data = {"dataset": _part(job.dataset), "agent": _part(job.agent), "attack": attack}
    if job.finish:
        data["finish"] = dict(job.finish)
    return identity({**data, "sources": dict(sources)} if sources else data)


def source_digests(paths: Iterable[Path], base: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path relative to ``base``."""
    return {
        os.path.relpath(path, base).replace(os.sep, "/"): _digest(path) for path in sorted(paths)
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_identity(job_identity: str, task_id: str, run_index: int) -> str:
    """Return the identity of one run of the job with that identity."""
    # What ``identity`` would make of these three, at a third of the time: sessions have many runs.
    job, task = json.dumps(job_identity), json.dumps(task_id)
    return _hash(f'{{"job":{job},"run_index":{run_index},"task_id":{task}}}')


def _part(component: ComponentSpec) -> dict[str, Any]:
    return {"type": component.type, "config": component.raw}


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, which is not a string")
            _check(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot hold")
    elif not (value is None or isinstance(value, str | int)):
        raise TypeError(f"{where} is of type {type(value).__name__}, which JSON cannot hold")
