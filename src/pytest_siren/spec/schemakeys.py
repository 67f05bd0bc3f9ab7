"""Which keys a pydantic schema knows at a place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pytest_siren.spec.wording import KeyPath


def keys_at(schema: type[BaseModel], path: KeyPath, data: Any) -> frozenset[str] | None:
    """Return the keys that a mapping at ``path`` may have; ``None`` where any key may stand.

    ``data`` is the mapping itself: its own constant keys (``type: x``) choose among alternatives.
    """
    places = list(_places(schema, path))
    models = [place for place in places if _is_model(place)]
    if not models or any(_is_open(place) for place in places):
        return None
    fitting = [model for model in models if _fits(model, data)] or models
    return frozenset(name for model in fitting for name in _fields(model))


def accepts(schema: type[BaseModel], path: KeyPath) -> bool:
    """Tell whether ``schema`` has a key at ``path``, named or through a mapping of any keys."""
    return any(True for _ in _places(schema, path))


def _places(annotation: Any, path: KeyPath) -> Iterator[Any]:
    """Yield the types that may stand at ``path`` below ``annotation``."""
    for member in _members(annotation):
        if not path:
            yield member
            continue
        for below in _step(member, path[0]):
            yield from _places(below, path[1:])


def _step(member: Any, part: str | int) -> Iterator[Any]:
    if _is_model(member):
        fields = _fields(member)
        if part in fields:
            yield fields[str(part)]
        return
    origin, arguments = get_origin(member) or member, get_args(member)
    if member is Any:
        yield Any
    elif not isinstance(origin, type):
        return
    elif issubclass(origin, Mapping) and isinstance(part, str):
        yield arguments[1] if len(arguments) == 2 else Any
    elif issubclass(origin, Sequence | set | frozenset) and not issubclass(origin, str | bytes):
        if isinstance(part, int):
            yield arguments[0] if arguments else Any


def _members(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "__value__"):  # a TypeAliasType, which typing has from Python 3.12 on
        yield from _members(annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif _is_model(annotation) and "root" in annotation.model_fields:
        yield from _members(annotation.model_fields["root"].annotation)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_open(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return annotation is Any or (isinstance(origin, type) and issubclass(origin, Mapping))


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _fits(model: type[BaseModel], data: Any) -> bool:
    if not isinstance(data, Mapping):
        return True
    return all(
        data[name] in get_args(annotation)
        for name, annotation in _fields(model).items()
        if name in data and get_origin(annotation) is Literal
    )
