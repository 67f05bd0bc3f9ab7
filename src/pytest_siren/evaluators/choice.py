"""The type of any evaluator's configuration, chosen by its ``type``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from pytest_siren.evaluation.components import Kind, UnknownComponentError, current_registry
from pytest_siren.evaluators.base import (
    EvaluatorConfig,
    RegisteredEvaluator,
    build_evaluator,
    located,
    problem,
    unknown,
)
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
"""The configurations of those that ship, by name."""


def _choose(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate with the model of ``type``.

    pydantic's own choice would put the type into the place of every error, where no such key is.
    """
    if isinstance(value, EvaluatorConfig):
        return value
    if not isinstance(value, Mapping):
        raise PydanticKnownError("dict_type")
    kind, registry = value.get("type"), current_registry()
    if kind is None:
        known = ", ".join(registry.names(Kind.EVALUATOR))
        raise problem(f"the evaluator has no type; known: {known}")
    try:
        component = registry.find(Kind.EVALUATOR, str(kind))
    except UnknownComponentError as error:
        message = unknown("evaluator type", str(kind), error.known)
        raise located("evaluator", [(("type",), message)]) from None
    except (ImportError, AttributeError, TypeError) as error:
        message = f"the evaluator {kind!r} cannot be loaded: {error}"
        raise located("evaluator", [(("type",), message)]) from None
    if component.build is build_evaluator:
        return component.config.model_validate(value)
    return RegisteredEvaluator.of(str(kind), _config(component.config, value), component)


def _config(model: type[BaseModel], value: Mapping[str, Any]) -> BaseModel:
    """Validate the keys beside ``type``. Raises ``ValidationError``, which names the known keys."""
    given = {key: one for key, one in value.items() if key != "type" or key in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        keys = [field.alias or name for name, field in model.model_fields.items()]
        raise ValidationError.from_exception_data(
            model.__name__, [_explained(one, keys) for one in details]
        ) from None


def _explained(details: ErrorDetails, keys: Sequence[str]) -> InitErrorDetails:
    kind: str | PydanticCustomError = details["type"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden" and len(details["loc"]) == 1:
        kind = problem(unknown("key", str(details["loc"][0]), keys))
    else:
        try:
            PydanticKnownError(kind, context)  # type: ignore[arg-type]
        except (KeyError, TypeError):
            kind = problem(details["msg"])
    return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"], ctx=context)


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
    # What a component of someone else's is configured with is no member of the union.
    SerializeAsAny(),
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
