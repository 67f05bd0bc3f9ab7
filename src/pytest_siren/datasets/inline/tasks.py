"""How inline tasks are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from pytest_siren.evaluators.base import EvaluatorConfig, Loc, empty, located, problem
from pytest_siren.evaluators.choice import NamedEvaluators

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


AnyTask = TypeVar("AnyTask", bound=TaskConfig, covariant=True)

_MOST = 20
"""Problems that one error lists."""


class InlineError(ValueError):
    """An inline dataset cannot be made.

    Each line of the message begins with its place: ``tasks.csv:3`` or ``dataset.config.tools[0]``.
    """

    def __init__(self, lines: Sequence[str], problems: Sequence[tuple[Loc, str]] = ()) -> None:
        more = len(lines) - _MOST
        shown = [*lines[:_MOST], f"... and {more} more"] if more > 0 else lines
        super().__init__("\n".join(shown))
        self.problems = tuple(problems)
        """The problems that lie in the configuration, with their places in it."""


@dataclass(frozen=True)
class Place:
    """A place in the dataset's configuration, or in a tasks file."""

    text: str
    """As a person finds it: ``tasks[3]`` or ``tasks.csv:7``."""
    loc: Loc | None
    """Place in the configuration; ``None`` for a file."""


@dataclass(frozen=True)
class Placed(Generic[AnyTask]):
    """A task with its place."""

    task: AnyTask
    place: Place


def placed(key: str, tasks: Sequence[AnyTask]) -> list[Placed[AnyTask]]:
    """Return the tasks that stand under ``key`` of the configuration."""
    return [
        Placed(task, Place(f"{key}[{index}]", (key, index))) for index, task in enumerate(tasks)
    ]


@dataclass
class Problems:
    """Problems found so far; all of them are reported at once."""

    _in_config: list[tuple[Loc, str]] = field(default_factory=list)
    _in_files: list[str] = field(default_factory=list)

    def add(self, place: Place, keys: Loc, message: str) -> None:
        """Report ``message`` for what stands under ``keys`` at ``place``."""
        if place.loc is None:
            self._in_files.append(line_of(place.text, keys, message))
        else:
            self._in_config.append(((*place.loc, *keys), message))

    def raise_invalid(self) -> None:
        """Raise what pydantic expects of a validator, if there are problems."""
        if self._in_config:
            raise located("inline", self._in_config)

    def raise_any(self) -> None:
        """Raise ``InlineError`` if there are problems."""
        lines = [line_of(_text(loc), (), message) for loc, message in self._in_config]
        if lines or self._in_files:
            raise InlineError([*lines, *self._in_files], self._in_config)


def line_of(place: str, keys: Loc, message: str) -> str:
    """Return ``tasks.csv:3: evaluators.x.value: message``."""
    return ": ".join(filter(None, (place, dotted(keys), message)))


def dotted(keys: Loc) -> str:
    """Return ``calls[0].name`` for ``("calls", 0, "name")``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _text(loc: Loc) -> str:
    return dotted(("dataset", "config", *loc))
