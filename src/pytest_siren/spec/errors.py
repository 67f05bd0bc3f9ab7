"""Problems of eval files, with file, line and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pytest_siren.spec.schema import keys_at
from pytest_siren.text.words import listed, nearest, suggestion
from pytest_siren.yamlpos.problems import KeyPath, Problem, dotted, shown, within
from pytest_siren.yamlpos.reader import Node


class SpecError(ValueError):
    """An eval file cannot be used; ``problems`` holds all its problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


_NOUNS = {
    "bool": "true or false",
    "dataclass": "a mapping",
    "decimal": "a number",
    "dict": "a mapping",
    "float": "a number",
    "frozen_set": "a list",
    "int": "an integer",
    "list": "a list",
    "mapping": "a mapping",
    "model": "a mapping",
    "model_attributes": "a mapping",
    "none_required": "null",
    "set": "a list",
    "string": "a string",
    "tuple": "a list",
    "typed_dict": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


@dataclass(frozen=True)
class _Error:
    """One of pydantic's errors, with its path in the data."""

    kind: str
    path: KeyPath
    details: ErrorDetails

    @property
    def noun(self) -> str | None:
        """The expected kind of value, if the type is wrong."""
        kind = self.kind
        for suffix in ("_type", "_parsing", "_parsing_size", "_from_float"):
            kind = kind.removesuffix(suffix)
        return _NOUNS.get(kind)


def problems_of(
    error: ValidationError, schema: type[BaseModel], data: Any, node: Node, at: KeyPath = ()
) -> list[Problem]:
    """Return the problems that validating ``data`` against ``schema`` found.

    ``node`` is the source of ``data``, ``at`` its path in messages.
    """
    errors = [_located(details, data) for details in error.errors(include_url=False)]
    errors = _not_overruled(errors)
    misspelt = {
        (*one.path[:-1], nearest(str(one.path[-1]), _known_beside(one, schema, data)))
        for one in errors
        if one.kind == "extra_forbidden"
    }
    errors = [one for one in errors if not (one.kind == "missing" and one.path in misspelt)]
    nouns: dict[KeyPath, dict[str, None]] = {}
    for one in errors:
        if one.noun:
            nouns.setdefault(one.path, {})[one.noun] = None
    problems: dict[Problem, None] = {}
    for one in errors:
        if one.noun:
            value, wanted = shown(one.details["input"]), " or ".join(nouns[one.path])
            message = f"wrong type for {dotted((*at, *one.path))}: {value} is not {wanted}"
        elif one.kind == "extra_forbidden":
            message = _unknown_key(one, schema, data, at)
        else:
            message = _message(one, (*at, *one.path))
        problems[node.nearest(one.path).place.problem(message)] = None
    return list(problems)


def _located(details: ErrorDetails, data: Any) -> _Error:
    kind, loc = details["type"], details["loc"]
    if kind == "missing":
        return _Error(kind, (*_real_path(loc[:-1], data, details["input"]), loc[-1]), details)
    return _Error(kind, _real_path(loc, data, details["input"]), details)


def _real_path(loc: Sequence[str | int], data: Any, value: Any) -> KeyPath:
    """Return ``loc`` without the parts by which pydantic distinguishes members of a union.

    Of all walks through ``data`` along ``loc`` it is the one that ends at ``value``, else the
    longest.
    """
    paths = sorted(_walks(tuple(loc), data), key=lambda walk: len(walk[0]), reverse=True)
    return next((path for path, end in paths if end is value), paths[0][0])


def _walks(loc: KeyPath, data: Any) -> list[tuple[KeyPath, Any]]:
    if not loc:
        return [((), data)]
    part, rest = loc[0], loc[1:]
    walks = _walks(rest, data)
    inside = (
        isinstance(part, int) and 0 <= part < len(data)
        if isinstance(data, list)
        else isinstance(data, Mapping) and part in data
    )
    if inside:
        walks += [((part, *path), end) for path, end in _walks(rest, data[part])]
    return walks


def _not_overruled(errors: list[_Error]) -> list[_Error]:
    """Leave out the type errors that only name a member of a union that the value is not meant for.

    Such a value is at fault in another way, or something within it is.
    """
    at_fault = {one.path for one in errors if one.noun is None}
    at_fault |= {one.path[:depth] for one in errors for depth in range(len(one.path))}
    return [one for one in errors if one.noun is None or one.path not in at_fault]


def _message(one: _Error, path: KeyPath) -> str:
    context = one.details.get("ctx", {})
    match one.kind:
        case "missing":
            return f"missing key {shown(path[-1])}{within(path[:-1])}"
        case "union_tag_not_found":
            return f"missing key {context['discriminator']}{within(path)}"
        case "union_tag_invalid":
            tag, known = str(context["tag"]), str(context["expected_tags"]).replace("'", "")
            key = str(context["discriminator"]).strip("'")
            hint = suggestion(tag, known.split(", "))
            return f"unknown {key} {shown(tag)}{within(path)}{hint}; known: {known}"
        case "string_too_short" | "too_short" if context.get("min_length") == 1:
            return f"empty value for {dotted(path)}"
        case "value_error" | "assertion_error":
            return f"{dotted(path)}: {context['error']}" if path else str(context["error"])
    where = f"wrong value for {dotted(path)}: {shown(one.details['input'])}"
    match one.kind:
        case "literal_error" | "enum":
            return f"{where} is not {context['expected']}"
        case kind if kind in _BOUNDS:
            name, words = _BOUNDS[kind]
            return f"{where} is not {words} {context[name]}"
    text = one.details["msg"]
    return f"{where}; {text[:1].lower()}{text[1:]}"


def _unknown_key(one: _Error, schema: type[BaseModel], data: Any, at: KeyPath) -> str:
    *parent, key = one.path
    known = _known_beside(one, schema, data)
    hint = suggestion(str(key), known) or (f"; known: {listed(known)}" if known else "")
    return f"unknown key {shown(key)}{within((*at, *parent))}{hint}"


def _known_beside(one: _Error, schema: type[BaseModel], data: Any) -> list[str]:
    """Return the keys that the mapping with the key of ``one`` may have, sorted."""
    mapping = data
    for part in one.path[:-1]:
        mapping = mapping[part]
    return sorted(keys_at(schema, one.path[:-1], mapping) or ())
