"""The base of every evaluator's configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from pytest_siren.evaluation.components import (
    Component,
    Kind,
    UnknownComponentError,
    current_registry,
)
from pytest_siren.evaluation.isolation import UserInterrupt, one_line
from pytest_siren.evaluation.tasks import Evaluator
from pytest_siren.text.words import suggestion


class EvaluatorConfig(BaseModel, ABC):
    """Configuration of one evaluator; subclasses fix ``type`` and add their own keys."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    type: str

    @abstractmethod
    def build(self, base: Path) -> Evaluator:
        """Return the evaluator. ``base`` is the folder that import paths are first looked up in.

        Raises ``ImportPathError`` when the configuration names code that cannot be loaded.
        """


def build_evaluator(config: EvaluatorConfig, base: Path) -> Evaluator:
    """Build an evaluator whose configuration knows how to."""
    return config.build(base)


class RegisteredEvaluator(EvaluatorConfig):
    """An evaluator that is built by a component, from a configuration of the component's own."""

    config: SerializeAsAny[BaseModel]
    _component: Component = PrivateAttr()

    @classmethod
    def of(cls, name: str, config: BaseModel, component: Component) -> RegisteredEvaluator:
        """Return the evaluator ``name`` with its validated ``config``."""
        made = cls.model_construct(type=name, config=config)
        made._component = component
        return made

    def build(self, base: Path) -> Evaluator:
        """Return what the component builds. Raises ``ValueError`` for what it raises."""
        try:
            built = self._component.build(self.config, base)
        except UserInterrupt:
            raise
        except ValueError:
            raise
        except BaseException as error:
            raise ValueError(f"building it failed: {one_line(error)}") from error
        if not (callable(built) or hasattr(built, "judge_model")):
            raise ValueError(f"it is {type(built).__name__}, which cannot be called")
        return built  # type: ignore[no-any-return]


Loc = tuple[str | int, ...]
"""Keys and indices that lead to a value, as in pydantic's errors."""


def problem(message: str) -> PydanticCustomError:
    """Return a ``value_error`` with exactly ``message`` for the value being validated."""
    # The message may quote braces, which pydantic must not read as placeholders.
    return PydanticCustomError("value_error", "{error}", {"error": message})


class Chosen(BaseModel):
    """A component by its ``type``, with its ``config``, inside the configuration of another one."""

    model_config = ConfigDict(extra="forbid")

    kind: ClassVar[Kind]
    type: str = Field(min_length=1)
    config: Any = None
    _component: Component = PrivateAttr()

    @model_validator(mode="after")
    def _found(self) -> Self:
        """Find the component, and validate ``config`` by its schema."""
        noun = self.kind.noun
        try:
            self._component = current_registry().find(self.kind, self.type)
        except UnknownComponentError as error:
            raise located(noun, [(("type",), str(error))]) from None
        except (ImportError, AttributeError, TypeError) as error:
            message = f"the {noun} {self.type!r} cannot be loaded: {error}"
            raise located(noun, [(("type",), message)]) from None
        if isinstance(self.config, BaseModel):
            return self
        try:
            self.config = self._component.config.model_validate(self.config or {})
        except ValidationError as error:
            found = error.errors(include_url=False)
            places = [(("config", *one["loc"]), one["msg"]) for one in found]
            raise located(noun, places) from None
        return self

    def build(self, base: Path) -> Any:
        """Return the part. Raises what building it raises."""
        return self._component.build(self.config, base)


def empty() -> PydanticKnownError:
    """Return pydantic's own error for a text that must not be empty."""
    return PydanticKnownError("string_too_short", {"min_length": 1})


def located(title: str, problems: Iterable[tuple[Loc, str]]) -> ValidationError:
    """Return a ``ValidationError`` with each message at its place.

    Raised inside a validator, pydantic puts the validator's own place in front.
    """
    details = [
        InitErrorDetails(type=problem(message), loc=loc, input=message) for loc, message in problems
    ]
    return ValidationError.from_exception_data(title, details)


def unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """Return a message that names the nearest of ``known`` and lists them all."""
    names = list(known)
    hint = suggestion(name, names)
    return f"unknown {noun} {name!r}{hint}; known: {', '.join(names) or 'none'}"
