"""The evaluators of a task, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator

from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.choice import AnyEvaluator
from pytest_siren.evaluators.problems import problem


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
