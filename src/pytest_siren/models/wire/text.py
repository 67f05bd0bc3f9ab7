"""What cannot be sent: lone surrogates, which UTF-8 has no bytes for, NUL, endless numbers."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest

_BAD = re.compile("[\0\ud800-\udfff]")
_LONE = re.compile("[\ud800-\udfff]")
_SUSPICIOUS = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|NaN|Infinity|\d[eE]\+?\d{3}|\d{309}")
"""What JSON holds if it holds anything that cannot be sent."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DEEPEST = 200
_SENT = ("content", "args", "tool_name", "tool_call_id")
"""The fields of a message's parts that are sent."""


def decodable(value: Any) -> Any:
    """Return JSON data ``value`` with U+FFFD for each lone surrogate."""
    return _json(value, _LONE, 0, numbers=False)


def sendable(value: Any) -> Any:
    """Return ``value`` with U+FFFD for each lone surrogate and NUL in its text.

    Numbers beyond all bounds become the largest that there is, and NaN becomes ``None``, for JSON
    has neither. Looks into dataclasses, mappings and sequences. What needs no change is returned
    as it is.
    """
    return _any(value, 0)


def sendable_message(message: ModelMessage) -> ModelMessage:
    """Return ``message`` as it can be sent; the same one when it could be before."""
    changed: dict[str, Any] = {}
    parts = [_part(part) for part in message.parts]
    if any(one is not two for one, two in zip(message.parts, parts, strict=True)):
        changed["parts"] = parts
    if isinstance(message, ModelRequest) and message.instructions:
        instructions = _text(message.instructions)
        if instructions is not message.instructions:
            changed["instructions"] = instructions
    return replace(message, **changed) if changed else message


def _part(part: Any) -> Any:
    changed = {}
    for name in _SENT:
        before = getattr(part, name, None)
        after = _any(before, 0)
        if name == "args" and isinstance(after, str):
            after = _arguments(after)
        if after is not before:
            changed[name] = after
    return replace(part, **changed) if changed else part


def _any(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if depth > _DEEPEST or value is None or isinstance(value, int | float | bytes):
        return _finite(value)
    if isinstance(value, Mapping):
        pairs = [(_any(key, depth + 1), _any(item, depth + 1)) for key, item in value.items()]
        before = value.items()
        same = all(
            k is key and v is item for (key, item), (k, v) in zip(before, pairs, strict=True)
        )
        return value if same else dict(pairs)
    if isinstance(value, list | tuple):
        parts = [_any(part, depth + 1) for part in value]
        if all(one is two for one, two in zip(value, parts, strict=True)):
            return value
        return tuple(parts) if isinstance(value, tuple) else parts
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, depth + 1)
    return value


def _dataclass(value: Any, depth: int) -> Any:
    changed = {}
    for field in fields(value):
        before = getattr(value, field.name, None)
        after = _any(before, depth)
        if after is not before and field.init:
            changed[field.name] = after
    return replace(value, **changed) if changed else value


def _text(text: str) -> str:
    if not text.isascii() or "\0" in text:
        try:
            text.encode()
        except UnicodeEncodeError:
            return _BAD.sub(REPLACEMENT, text)
        if "\0" in text:
            return text.replace("\0", REPLACEMENT)
    return text


def _arguments(text: str) -> str:
    """Return JSON ``text``, the arguments of a call, without escapes and numbers that are bad."""
    if not _SUSPICIOUS.search(text):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    cleaned = _json(value, _BAD, 0, numbers=True)
    return text if cleaned is value else json.dumps(cleaned, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else math.copysign(sys.float_info.max, value)


def _json(value: Any, bad: re.Pattern[str], depth: int, *, numbers: bool) -> Any:
    """Return JSON data without what ``bad`` matches; the same object if there is none."""
    if isinstance(value, str):
        return bad.sub(REPLACEMENT, value) if bad.search(value) else value
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        items = {
            _json(key, bad, depth + 1, numbers=numbers): _json(
                item, bad, depth + 1, numbers=numbers
            )
            for key, item in value.items()
        }
        same = len(items) == len(value) and all(
            key in items and items[key] is item for key, item in value.items()
        )
        return value if same else items
    if isinstance(value, list):
        parts = [_json(part, bad, depth + 1, numbers=numbers) for part in value]
        return value if all(a is b for a, b in zip(value, parts, strict=True)) else parts
    return _finite(value) if numbers else value
