"""Validators of JSON Schema that stop in time.

``jsonschema`` uses ``re``, which cannot be interrupted, compares the items of an array with each
other, and follows references for as long as they lead on. It has no option for any of these, so its
keywords are taken over with bounded searches in the place of ``re``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from pydantic import Field, field_validator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators import json_schema as strict_json
from pytest_siren.evaluators.base import EvaluatorConfig, build_evaluator, problem
from pytest_siren.evaluators.matching import in_time, left, search

_Keyword = Callable[[Any, Any, Any, Any], Any]


class _Patterns:
    """Replaces the module ``re`` for the keywords."""

    search = staticmethod(search)


@cache
def in_bounds(kind: type[Validator]) -> type[Validator]:
    """Return the validator ``kind`` with keywords that raise ``EvaluationTimeoutError`` in time."""
    keywords = {name: _stopping(_bounded(keyword)) for name, keyword in kind.VALIDATORS.items()}
    if "uniqueItems" in keywords:
        keywords["uniqueItems"] = _stopping(_unique_items)
    bounded: type[Validator] = extend(kind, keywords)  # type: ignore[no-untyped-call]
    return bounded


def _stopping(keyword: _Keyword) -> _Keyword:
    def stopping(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left()
        yield from keyword(validator, value, instance, schema) or ()

    return stopping


def _bounded(function: Any) -> Any:
    """Return ``function`` of jsonschema, and the functions it calls there, without ``re``."""
    if not isinstance(function, FunctionType):
        return function
    names = dict(function.__globals__)
    for name, helper in function.__globals__.items():
        if isinstance(helper, FunctionType) and helper.__globals__.get("re") is re:
            names[name] = _with_patterns(helper)
    return _copy(function, names)


def _with_patterns(helper: FunctionType) -> FunctionType:
    names = dict(helper.__globals__)
    copy = _copy(helper, names)
    names[helper.__name__] = copy  # some call themselves
    return copy


def _copy(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    if names.get("re") is re:
        names["re"] = _Patterns
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if unique and validator.is_type(instance, "array"):
        if len({_key(item) for item in instance}) < len(instance):
            yield ValidationError("has items that are the same")


def _key(value: Any) -> Any:
    """Return something hashable that is equal for the same JSON: 1 is 1.0, but ``true`` is not."""
    if isinstance(value, bool) or value is None:
        return (value, "")
    if isinstance(value, Mapping):
        return frozenset((name, _key(one)) for name, one in value.items())
    if isinstance(value, list):
        return tuple(map(_key, value))
    return value


class JsonSchema(EvaluatorConfig):
    """1.0 when the output is JSON valid under ``schema`` (2020-12 unless ``$schema`` says else).

    The JSON may stand alone or in a fenced block: the first one marked ``json`` or not marked.
    ``format`` is not asserted. References lead into the schema itself or to the meta-schemas;
    nothing is fetched.
    A validation that takes longer than 5 s is the run's error.
    """

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")

    @field_validator("schema_")
    @classmethod
    def _is_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            validator_for(value, default=Draft202012Validator).check_schema(value)
            _check_references(value)
        except SchemaError as error:
            place = f" at {error.json_path}" if error.absolute_path else ""
            raise problem(f"not a JSON Schema: {error.message}{place}") from None
        except Unresolvable as error:
            raise problem(f"the reference {error.ref!r} leads nowhere") from None
        except RecursionError:
            raise problem("nested too deeply") from None
        return value

    def build(self, base: Path) -> Evaluator:
        kind: type[Validator] = validator_for(self.schema_, default=Draft202012Validator)
        # An explicit registry keeps jsonschema from fetching references.
        validator = in_bounds(kind)(self.schema_, registry=Registry())

        def judge(output: str) -> float:
            try:
                return float(validator.is_valid(strict_json.loads(answer(output))))
            # A number too large for a float is a multiple of nothing.
            except (ValueError, OverflowError, RecursionError):
                return 0.0

        def json_schema(evidence: Evidence) -> float | Awaitable[float]:
            return in_time("json_schema", lambda: judge(evidence.output))

        return json_schema


def answer(output: str) -> str:
    """Return the fenced block of ``output`` that is unmarked or marked ``json``, else all of it."""
    block: list[str] | None = None
    skipping = False
    for line in output.split("\n"):
        mark = line.strip()
        if block is not None and mark == "```":
            return "\n".join(block)
        if block is not None:
            block.append(line)
        elif skipping:
            skipping = mark != "```"
        elif mark.lower() in ("```", "```json"):
            block = []
        elif mark.startswith("```"):
            skipping = True
    return output


def _check_references(schema: dict[str, Any]) -> None:
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    waiting = [(resource, REGISTRY.resolver_with_root(resource))]
    while waiting:
        part, resolver = waiting.pop()
        if isinstance(part.contents, dict) and isinstance(part.contents.get("$ref"), str):
            resolver.lookup(part.contents["$ref"])
        waiting += [(sub, resolver.in_subresource(sub)) for sub in part.subresources()]


def loads(text: str) -> Any:
    """Return the value of ``text``.

    Raises ``ValueError`` for what is no JSON (RFC 8259), for a repeated key, for numbers that are
    not finite, such as ``NaN`` and ``1e999``, and for nesting that is too deep for the interpreter.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice in one object")
        found[key] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


component = Component(JsonSchema, build_evaluator)
