"""Messages and usage of pydantic-ai as JSON data."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import fields
from functools import cache
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic_ai.messages import (
    MULTI_MODAL_CONTENT_TYPES,
    BaseToolReturnPart,
    ModelMessage,
    ModelMessagesTypeAdapter,
)
from pydantic_ai.usage import RunUsage
from pydantic_core import to_json

from pytest_siren.jobs.plain import Plain, plain

_ANYTHING = ("args", "metadata", "provider_details", "content")
"""Fields in which models, tools and agents may have put values of any type."""


def dump_messages(messages: Sequence[ModelMessage]) -> Plain:
    """Return ``messages`` as pydantic-ai's own adapter writes them.

    Values of any type in arguments, tool results and metadata are made plain first: pydantic
    refuses some of them, and turns numbers that are not finite into ``null``.
    """
    portable = [_portable_message(message) for message in messages]
    dumped = ModelMessagesTypeAdapter.dump_python(
        portable, mode="json", fallback=plain, warnings=False
    )
    return Plain(dumped)


def load_messages(messages: list[Any]) -> tuple[ModelMessage, ...]:
    """Return what ``dump_messages`` was given. Raises ``pydantic.ValidationError``."""
    # Only from JSON text does the adapter decode base64.
    return tuple(ModelMessagesTypeAdapter.validate_json(to_json(messages)))


def dump_usage(usage: RunUsage) -> dict[str, Any]:
    """Return ``usage`` as pydantic-ai writes it."""
    dumped: dict[str, Any] = _usage_adapter().dump_python(usage, mode="json", warnings=False)
    return dumped


def load_usage(usage: Any) -> RunUsage:
    """Return what ``dump_usage`` was given. Raises ``pydantic.ValidationError``."""
    return _usage_adapter().validate_python(usage)


@cache
def make_ready() -> None:
    """Have pydantic build what messages are written with, which it else does for the first record.

    It takes 0.13 s, in which no other run goes on.
    """
    dump_messages(())
    dump_usage(RunUsage())


@cache
def _usage_adapter() -> TypeAdapter[RunUsage]:
    return TypeAdapter(RunUsage)


def _portable_message(message: ModelMessage) -> ModelMessage:
    parts = [_portable(part) for part in message.parts]
    changed: ModelMessage = _portable(message)
    if any(new is not old for new, old in zip(parts, message.parts, strict=True)):
        changed = copy(changed)
        changed.parts = parts
    return changed


def _portable(item: Any) -> Any:
    """Return a message or part with plain values in the fields that take anything; a copy if so."""
    changed = item
    for name in _taking_anything(cast(Hashable, type(item))):
        value = getattr(item, name)
        if value is None or isinstance(value, str):
            continue
        if changed is item:
            changed = copy(item)
        setattr(changed, name, plain(value, keep=MULTI_MODAL_CONTENT_TYPES))
    return changed


@cache
def _taking_anything(kind: Any) -> tuple[str, ...]:
    """Return the fields of messages or parts of ``kind`` that take values of any type."""
    known = {each.name for each in fields(kind)}
    found = known.intersection(_ANYTHING)
    if not issubclass(kind, BaseToolReturnPart):
        found.discard("content")
    return tuple(found)
