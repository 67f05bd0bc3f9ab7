"""Text that cannot be sent: lone surrogates, which UTF-8 has no bytes for, and NUL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest

_BAD = re.compile("[\0\ud800-\udfff]")
_LONE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DEEPEST = 200
_SENT = ("content", "args", "tool_name", "tool_call_id")
"""The fields of a message's parts that are sent."""


def decodable(value: Any) -> Any:
    """Return JSON data ``value`` with U+FFFD for each lone surrogate."""
    return _json(value, _LONE, 0)


def sendable(value: Any) -> Any:
    """Return ``value`` with U+FFFD for each lone surrogate and NUL in its text.

    Looks into dataclasses, mappings and sequences. What needs no change is returned as it is.
    """
    return _any(value, 0)


def sendable_messages(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Return ``messages`` as they can be sent; the same list when they could be before."""
    cleaned = [_message(message) for message in messages]
    same = all(one is two for one, two in zip(messages, cleaned, strict=True))
    return messages if same else cleaned


def _message(message: ModelMessage) -> ModelMessage:
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
        if before is not None and (after := _any(before, 0)) is not before:
            changed[name] = after
    return replace(part, **changed) if changed else part


def _any(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if depth > _DEEPEST or value is None or isinstance(value, int | float | bytes):
        return value
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
    if "\\u" in text and _ESCAPED.search(text):
        return _arguments(text)
    return text


def _arguments(text: str) -> str:
    """Return JSON ``text``, such as the arguments of a call, with nothing bad in escapes."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    cleaned = _json(value, _BAD, 0)
    return text if cleaned is value else json.dumps(cleaned, ensure_ascii=False)


def _json(value: Any, bad: re.Pattern[str], depth: int) -> Any:
    """Return JSON data without what ``bad`` matches; the same object if there is none."""
    if isinstance(value, str):
        return bad.sub(REPLACEMENT, value) if bad.search(value) else value
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        items = {_json(k, bad, depth + 1): _json(v, bad, depth + 1) for k, v in value.items()}
        same = len(items) == len(value) and all(
            key in items and items[key] is item for key, item in value.items()
        )
        return value if same else items
    if isinstance(value, list):
        parts = [_json(part, bad, depth + 1) for part in value]
        return value if all(a is b for a, b in zip(value, parts, strict=True)) else parts
    return value
