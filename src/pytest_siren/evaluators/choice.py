"""The type of any evaluator's configuration, chosen by its ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticKnownError

from pytest_siren.evaluators.base import EvaluatorConfig, located, problem, unknown
from pytest_siren.evaluators.json_schema import JsonSchema
from pytest_siren.evaluators.matching import Contains, Equals, NotContains, Regex, ToolCalled
from pytest_siren.evaluators.model_graded import ModelGraded
from pytest_siren.evaluators.python import PythonEvaluator

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


def _check_name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise problem(f"{value!r} cannot be a name; use printable characters on one line")
    return value


_Mapping: TypeAlias = dict[Annotated[str, AfterValidator(_check_name)], AnyEvaluator]
_List: TypeAlias = list[AnyEvaluator]
_MAPPING: TypeAdapter[_Mapping] = TypeAdapter(_Mapping)
_LIST: TypeAdapter[_List] = TypeAdapter(_List)


def _with_names(value: Any, handler: ValidatorFunctionWrapHandler) -> dict[str, EvaluatorConfig]:
    """Validate either form by itself: a union would put its members into the place of errors."""
    if isinstance(value, list):
        return _named(_LIST.validate_python(value))
    if isinstance(value, dict):
        return dict(_MAPPING.validate_python(value))
    raise problem("evaluators are a list, or a mapping of name to evaluator")


def _named(configs: _List) -> dict[str, EvaluatorConfig]:
    named: dict[str, EvaluatorConfig] = {}
    for config in configs:
        same = sum(other.type == config.type for other in named.values())
        named[f"{config.type}_{same + 1}" if same else config.type] = config
    return named


if TYPE_CHECKING:
    NamedEvaluators: TypeAlias = dict[str, EvaluatorConfig]
else:
    NamedEvaluators = Annotated[_Mapping | _List, WrapValidator(_with_names)]
    """Name to evaluator; a list is named after its types: ``regex``, ``regex_2``, ``equals``."""
