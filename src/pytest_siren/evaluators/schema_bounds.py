"""Validators of JSON Schema that stop in time.

``jsonschema`` uses ``re``, which cannot be interrupted, compares the items of an array with each
other, and follows references for as long as they lead on. It has no option for any of these, so its
keywords are taken over with bounded searches in the place of ``re``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import FunctionType
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from pytest_siren.evaluators.bounds import left
from pytest_siren.evaluators.patterns import search

_Keyword = Callable[[Any, Any, Any, Any], Any]


class _Patterns:
    """Stands where the keywords expect the module ``re``."""

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
    """Return ``function`` of jsonschema, and what it calls there, without ``re``."""
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
