"""What must hold among inline tasks, tools and couples, beyond each one's own form."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pytest_siren.datasets.inline.rows import SUFFIXES
from pytest_siren.datasets.inline.tasks import (
    AnyTask,
    BenignTaskConfig,
    MaliciousTaskConfig,
    Place,
    Placed,
    Problems,
    TaskConfig,
    Text,
    Vectors,
    placed,
)
from pytest_siren.environments.inline import InlineTool, ToolError, placeholder
from pytest_siren.evaluators.base import problem, unknown
from pytest_siren.evaluators.python import ImportPath
from pytest_siren.evaluators.tool_called import ToolCalled

_CONFIG = Place("", ())
_NO_RESULTS = "there are no tools whose results it could be in"


def check_tasks(
    config: InlineConfig,
    benign: Sequence[Placed[BenignTaskConfig]],
    malicious: Sequence[Placed[MaliciousTaskConfig]],
    problems: Problems,
) -> None:
    """Check ids, couples and injection vectors; no code is loaded."""
    _check_ids(benign, problems)
    _check_ids(malicious, problems)
    _check_couples(config.couples or (), benign, malicious, problems)
    _check_vectors(config, benign, problems)


def check_tools(
    tools: Mapping[str, InlineTool],
    benign: Sequence[Placed[BenignTaskConfig]],
    malicious: Sequence[Placed[MaliciousTaskConfig]],
    problems: Problems,
) -> None:
    """Check that tools named anywhere exist, and take the arguments of known solutions."""
    for each in benign:
        for index, name in enumerate(each.task.tools or ()):
            if name not in tools:
                problems.add(each.place, ("tools", index), unknown("tool", name, tools))
        _check_calls(each, offered(each.task, tools), problems)
    for other in malicious:
        _check_calls(other, tools, problems)
    # Without tools of its own, a dataset leaves them to an agent that brings some.
    for any_task in (*benign, *malicious) if tools else ():
        for name, evaluator in any_task.task.evaluators.items():
            if isinstance(evaluator, ToolCalled) and evaluator.name not in tools:
                message = unknown("tool", evaluator.name, tools)
                problems.add(any_task.place, ("evaluators", name, "name"), message)


def offered(task: BenignTaskConfig, tools: Mapping[str, InlineTool]) -> Mapping[str, InlineTool]:
    """Return the tools that ``task`` has."""
    if task.tools is None:
        return tools
    return {name: tools[name] for name in tools if name in task.tools}


def _check_ids(tasks: Sequence[Placed[AnyTask]], problems: Problems) -> None:
    first: dict[str, Place] = {}
    for each in tasks:
        if (earlier := first.setdefault(each.task.id, each.place)) is not each.place:
            message = f"the id {each.task.id!r} is already taken by {earlier.text}"
            problems.add(each.place, ("id",), message)


def _check_couples(
    couples: Sequence[str],
    benign: Sequence[Placed[BenignTaskConfig]],
    malicious: Sequence[Placed[MaliciousTaskConfig]],
    problems: Problems,
) -> None:
    benign_ids = dict.fromkeys(each.task.id for each in benign)
    malicious_ids = dict.fromkeys(each.task.id for each in malicious)
    earlier: set[str] = set()
    for index, couple in enumerate(couples):
        if not split_couple(couple, benign_ids, malicious_ids):
            benign_id, _, malicious_id = couple.partition(":")
            for noun, given, known in (
                ("benign task", benign_id, benign_ids),
                ("malicious task", malicious_id, malicious_ids),
            ):
                if given not in known:
                    problems.add(_CONFIG, ("couples", index), unknown(noun, given, known))
        if couple in earlier:
            problems.add(_CONFIG, ("couples", index), f"the couple {couple!r} is a duplicate")
        earlier.add(couple)


def split_couple(
    couple: str, benign_ids: Container[str], malicious_ids: Container[str]
) -> tuple[str, str] | None:
    """Return the ids that ``couple`` joins, colons in them or not; ``None`` if unknown."""
    parts = couple.split(":")
    joined = ((":".join(parts[:cut]), ":".join(parts[cut:])) for cut in range(1, len(parts)))
    return next(
        (pair for pair in joined if pair[0] in benign_ids and pair[1] in malicious_ids), None
    )


def _check_vectors(
    config: InlineConfig, benign: Sequence[Placed[BenignTaskConfig]], problems: Problems
) -> None:
    for each in benign:
        for vector in each.task.vectors:
            if not _can_stand(vector, each.task, config):
                message = f"{placeholder(vector)} is not in the prompt, and {_NO_RESULTS}"
                problems.add(each.place, ("vectors", vector), message)
    for vector in config.vectors:
        if not any(_can_stand(vector, each.task, config) for each in benign):
            message = f"{placeholder(vector)} is in no task's prompt, and {_NO_RESULTS}"
            problems.add(_CONFIG, ("vectors", vector), message)


def _can_stand(vector: str, task: BenignTaskConfig, config: InlineConfig) -> bool:
    has_tools = bool(config.tools) and task.tools != []
    return has_tools or placeholder(vector) in task.prompt


def _check_calls(
    each: Placed[TaskConfig], tools: Mapping[str, InlineTool], problems: Problems
) -> None:
    for index, call in enumerate(each.task.ground_truth.calls if each.task.ground_truth else ()):
        keys = ("ground_truth", "calls", index)
        if call.name not in tools:
            problems.add(each.place, (*keys, "name"), unknown("tool", call.name, tools))
            continue
        try:
            tools[call.name].validate(call.arguments)
        except ToolError as error:
            problems.add(each.place, (*keys, "arguments"), str(error))


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
