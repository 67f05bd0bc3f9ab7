"""What an eval file comes to: one ``JobSpec`` per configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pytest_siren.spec.passwhen import PassWhen


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
