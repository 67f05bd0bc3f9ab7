"""The evaluators of a task, by name."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator

from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.choice import AnyEvaluator
from pytest_siren.evaluators.problems import problem

_LIST: TypeAdapter[list[AnyEvaluator]] = TypeAdapter(list[AnyEvaluator])


def _check_name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise problem(f"{value!r} cannot be a name; use printable characters on one line")
    return value


def _with_names(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, list):
        value = _named(_LIST.validate_python(value))
    elif not isinstance(value, dict):
        raise problem("evaluators are a list, or a mapping of name to evaluator")
    return handler(value)


def _named(configs: list[AnyEvaluator]) -> dict[str, EvaluatorConfig]:
    named: dict[str, EvaluatorConfig] = {}
    for config in configs:
        same = sum(other.type == config.type for other in named.values())
        named[f"{config.type}_{same + 1}" if same else config.type] = config
    return named


NamedEvaluators: TypeAlias = Annotated[
    dict[Annotated[str, AfterValidator(_check_name)], AnyEvaluator], WrapValidator(_with_names)
]
"""Name to evaluator. A list is named after its types: ``contains``, ``contains_2``, ``regex``."""
