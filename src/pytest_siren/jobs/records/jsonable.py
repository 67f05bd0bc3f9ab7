"""Any Python value as plain JSON data that every reader accepts."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel

_DEEPEST = 100
"""Levels of nesting that are kept; common JSON parsers refuse more than 128."""


_CONTAINERS = (Mapping, list, tuple, set, frozenset, BaseModel)
_COMMON_CONTAINERS = frozenset({dict, list, tuple})


class JsonList(list[Any]):
    """JSON data that somebody else has made plain; only lone surrogates may be left in it."""


class JsonRecord(dict[str, Any]):
    """As ``JsonList``, with text keys; numbers that are not finite may be left in it, too."""


def to_jsonable(value: Any, keep: tuple[type, ...] = ()) -> Any:
    r"""Return ``value`` as dicts with text keys, lists, text, numbers, booleans and ``None``.

    What JSON or UTF-8 cannot express is spelled as text, so that it can still be read: a lone
    surrogate as the six characters ``\udXXX``, numbers that are not finite as ``NaN``,
    ``Infinity`` and ``-Infinity``, bytes in base64, dates in ISO 8601, any other object as its
    ``repr``, what contains itself as ``<circular>``, what lies deeper than 100 levels as
    ``<nested too deeply>``. Objects of the types ``keep`` are returned as they are.
    """
    return _Converter(keep).convert(value, 0)


class _Converter:
    def __init__(self, keep: tuple[type, ...]) -> None:
        self._keep = keep
        self._open: set[int] = set()
        """Ids of the containers that are being converted."""

    def convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return value if value.isascii() else _text(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is float:
            return value if math.isfinite(value) else _not_finite(value)
        if kind is datetime:
            return value.isoformat()
        if kind in _COMMON_CONTAINERS:
            return self._container(value, depth)
        if self._keep and isinstance(value, self._keep):
            return value
        if isinstance(value, _CONTAINERS) or _is_dataclass(value):
            return self._container(value, depth)
        return self.convert(_scalar(value), depth)

    def _container(self, value: Any, depth: int) -> Any:
        if id(value) in self._open:
            return "<circular>"
        if depth >= _DEEPEST:
            return "<nested too deeply>"
        self._open.add(id(value))
        try:
            if type(value) is dict:
                return self._dict(value, depth + 1)
            if isinstance(value, Mapping):
                return self._object(value.items(), depth + 1)
            if isinstance(value, list | tuple):
                return [self.convert(item, depth + 1) for item in value]
            if isinstance(value, BaseModel):
                return self._object(value, depth + 1)
            if _is_dataclass(value):
                pairs = ((field.name, getattr(value, field.name, None)) for field in fields(value))
                return self._object(pairs, depth + 1)
            return [self.convert(item, depth + 1) for item in value]
        finally:
            self._open.discard(id(value))

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        """Return what ``_object`` does of its items, and sooner where nearly all is plain."""
        result = dict(value)
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                return self._object(value.items(), depth)
            # What most items are is told apart here, for a call would take longer.
            kind = type(item)
            if item is None or kind is int or kind is bool or (kind is str and item.isascii()):
                continue
            result[key] = self.convert(item, depth)
        return result

    def _object(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in pairs:
            name = key if type(key) is str and key.isascii() else _key(key)
            while name in result:
                name += "'"
            result[name] = self.convert(item, depth)
        return result


def _is_dataclass(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="backslashreplace").decode()
    return value


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(str.__str__(key))
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return _text(_described(_scalar(key)))


def _scalar(value: Any) -> Any:
    """Return text or a number for ``value``, which is no container and of no JSON type itself."""
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str | int | float) else value.name
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | PurePath | UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(value).decode()
    return _described(value)


def _described(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - code of a stranger's object; the record tells
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
