"""The type of any evaluator's configuration, chosen by its ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticKnownError

from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.contains import Contains, NotContains
from pytest_siren.evaluators.equals import Equals
from pytest_siren.evaluators.json_schema import JsonSchema
from pytest_siren.evaluators.model_graded import ModelGraded
from pytest_siren.evaluators.problems import located, problem, unknown
from pytest_siren.evaluators.python import PythonEvaluator
from pytest_siren.evaluators.regex import Regex
from pytest_siren.evaluators.tool_called import ToolCalled

EVALUATORS: Mapping[str, type[EvaluatorConfig]] = {
    "contains": Contains,
    "not_contains": NotContains,
    "equals": Equals,
    "regex": Regex,
    "json_schema": JsonSchema,
    "tool_called": ToolCalled,
    "python": PythonEvaluator,
    "model_graded": ModelGraded,
}


def _choose(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate with the model of ``type``.

    pydantic's own choice would put the type into the place of every error, where no such key is.
    """
    if isinstance(value, EvaluatorConfig):
        return value
    if not isinstance(value, Mapping):
        raise PydanticKnownError("dict_type")
    kind = value.get("type")
    if kind is None:
        raise problem(f"the evaluator has no type; known: {', '.join(EVALUATORS)}")
    if not isinstance(kind, str) or kind not in EVALUATORS:
        raise located("evaluator", [(("type",), unknown("evaluator type", str(kind), EVALUATORS))])
    return EVALUATORS[kind].model_validate(value)


AnyEvaluator: TypeAlias = Annotated[
    Annotated[
        Contains
        | NotContains
        | Equals
        | Regex
        | JsonSchema
        | ToolCalled
        | PythonEvaluator
        | ModelGraded,
        Field(discriminator="type"),
    ],
    WrapValidator(_choose),
]
