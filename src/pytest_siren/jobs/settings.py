"""What readers take from the configuration of a job, prompt-siren's or ours, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pytest_siren.jobs.ranges import Count, Name, Number


class Part(BaseModel):
    """The dataset, agent or attack of a job."""

    model_config = ConfigDict(strict=True)

    type: Name
    config: dict[str, Any] | None = None


class Settings(BaseModel):
    """The keys that any reader looks at; others may hold what they like."""

    model_config = ConfigDict(strict=True)

    dataset: Part | None = None
    agent: Part | None = None
    attack: Part | None = None
    dataset_name: Name | None = None
    dataset_suite: str | None = None
    model_label: Name | None = None
    model_kind: Name | None = None
    attack_name: Name | None = None
    identity: Name | None = None
    planned_runs: Count | None = None
    not_needed: Count | None = None
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
