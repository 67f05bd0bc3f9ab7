"""Configuration of the dataset ``inline``."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pytest_siren.datasets.inline.checks import check_tasks
from pytest_siren.datasets.inline.places import Placed, Problems, placed
from pytest_siren.datasets.inline.rows import SUFFIXES
from pytest_siren.datasets.inline.tasks import (
    BenignTaskConfig,
    MaliciousTaskConfig,
    Text,
    Vectors,
)
from pytest_siren.evaluators.importing import ImportPath
from pytest_siren.evaluators.problems import problem


def _check_name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise problem(f"{value!r} cannot be a name; use printable characters on one line")
    return value


def _check_file(value: str) -> str:
    if not value.lower().endswith(SUFFIXES):
        raise problem(f"{value!r} is no tasks file; it must end in {', '.join(SUFFIXES)}")
    return value


def _check_couple(value: str) -> str:
    if ":" not in value.strip(":"):
        raise problem(f"{value!r} is not a couple; write benign_id:malicious_id")
    return value


TaskFile: TypeAlias = Annotated[str, AfterValidator(_check_file)]


class ToolConfig(BaseModel):
    """A tool: a Python function by import path."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: ImportPath
    name: str | None = Field(default=None, min_length=1, description="Instead of the function's")
    description: str | None = Field(default=None, description="Instead of the docstring's")


def _tool(value: Any) -> Any:
    if isinstance(value, str):
        return {"path": value}
    if not isinstance(value, dict | ToolConfig):
        raise problem("a tool is module:callable, or a mapping with path, name and description")
    return value


class InlineConfig(BaseModel):
    """Tasks, the tools and injection vectors that they have, and which of them are coupled."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    name: Annotated[str, AfterValidator(_check_name)] = "inline"
    user_name: Text = Field(default="the user", description="How attacks name the agent's user")
    system_prompt: str | None = None
    tasks: list[BenignTaskConfig] = Field(default_factory=list)
    tasks_file: TaskFile | None = Field(
        default=None, description="More benign tasks; relative to the eval file"
    )
    malicious_tasks: list[MaliciousTaskConfig] = Field(default_factory=list)
    malicious_tasks_file: TaskFile | None = Field(
        default=None, description="More malicious tasks; relative to the eval file"
    )
    vectors: Vectors = Field(default_factory=dict, description="Injection vectors of all tasks")
    tools: list[
        Annotated[ToolConfig, BeforeValidator(_tool, json_schema_input_type=str | ToolConfig)]
    ] = Field(default_factory=list)
    couples: list[Annotated[str, AfterValidator(_check_couple)]] | None = Field(
        default=None, description="benign_id:malicious_id; every pair when left out"
    )

    @model_validator(mode="after")
    def _consistent(self) -> InlineConfig:
        if self.tasks_file is None and not self.tasks:
            raise problem("has no tasks: give tasks or tasks_file")
        if self.tasks_file is None and self.malicious_tasks_file is None:
            problems = Problems()
            check_tasks(self, self.own_tasks(), self.own_malicious_tasks(), problems)
            problems.raise_invalid()
        return self

    def own_tasks(self) -> list[Placed[BenignTaskConfig]]:
        """Return the benign tasks that stand in the eval file."""
        return placed("tasks", self.tasks)

    def own_malicious_tasks(self) -> list[Placed[MaliciousTaskConfig]]:
        """Return the malicious tasks that stand in the eval file."""
        return placed("malicious_tasks", self.malicious_tasks)
