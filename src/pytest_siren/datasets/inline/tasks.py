"""How inline tasks are written."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.named import NamedEvaluators
from pytest_siren.evaluators.problems import empty, problem

_VECTOR = re.compile(r"[\w.-]+")


def _check_text(value: str) -> str:
    if not value.strip():
        raise empty()
    return value


def _check_id(value: str) -> str:
    if not value or value != value.strip() or not value.isprintable() or "," in value:
        raise problem(
            f"{value!r} cannot be an id; use printable characters on one line, "
            "and no ',' (it separates ids)"
        )
    return value


def _check_vector(value: str) -> str:
    if not _VECTOR.fullmatch(value):
        raise problem(f"{value!r} cannot be a vector's id; use letters, digits, '_', '-' and '.'")
    return value


Text: TypeAlias = Annotated[str, AfterValidator(_check_text)]
TaskId: TypeAlias = Annotated[str, AfterValidator(_check_id)]
Vectors: TypeAlias = dict[Annotated[str, AfterValidator(_check_vector)], str]
"""Injection vector to the text that stands there when nobody attacks."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)


class CallConfig(_Strict):
    """One tool call of a known solution."""

    name: str = Field(min_length=1)
    arguments: dict[str, Any] = Field(default_factory=dict)


class GroundTruthConfig(_Strict):
    """A known solution of a task."""

    calls: list[CallConfig] = Field(default_factory=list)
    output: str = Field(default="", description="The closing words")


class TaskConfig(_Strict):
    """What benign and malicious tasks have in common."""

    id: TaskId
    evaluators: NamedEvaluators = Field(default_factory=dict)
    ground_truth: GroundTruthConfig | None = None


class BenignTaskConfig(TaskConfig):
    """A benign task; one without evaluators scores 0.0."""

    prompt: Text
    system_prompt: str | None = Field(default=None, description="Replaces the dataset's own")
    vectors: Vectors = Field(default_factory=dict)
    tools: list[str] | None = Field(default=None, description="Names; all tools when left out")


class MaliciousTaskConfig(TaskConfig):
    """A malicious task."""

    goal: Text
    prompt: Text | None = Field(
        default=None, description="What the user asks for where it runs as a benign task"
    )
    evaluators: NamedEvaluators

    @field_validator("evaluators")
    @classmethod
    def _some(cls, value: dict[str, EvaluatorConfig]) -> dict[str, EvaluatorConfig]:
        if not value:
            raise problem("must not be empty: without evaluators no attack could ever succeed")
        return value
