"""Requests as they can be sent."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from pytest_siren.models.wire.text import sendable, sendable_message

_MOST = 64


class OddDataWarning(UserWarning):
    """A model or its provider was sent, or sent, what had to be mended."""

    loses_no_run = True
    """It stays a warning where others are turned into errors."""


class Notes:
    """What is worth a warning, once in a process for each model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._given: set[str] = set()

    def give(self, text: str) -> None:
        """Warn of ``text``, the end of a sentence that begins with the model."""
        if text not in self._given:
            self._given.add(text)
            warnings.warn(OddDataWarning(f"model {self._model!r}: {text}"), stacklevel=3)


class Outgoing:
    """Replaces what cannot be sent in the requests to one model, and warns of it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        # With the objects themselves, so that nothing else gets their ids.
        self._tools: dict[tuple[int, ...], tuple[Sequence[ToolDefinition], list[ToolDefinition]]]
        self._tools = {}

    def messages(
        self, messages: list[ModelMessage], known: dict[int, tuple[ModelMessage, ModelMessage]]
    ) -> list[ModelMessage]:
        """Return ``messages`` as they can be sent.

        ``known`` are those of the same conversation that have been looked at, by id: each with the
        one that is sent. New ones are added.
        """
        cleaned = []
        for message in messages:
            found = known.get(id(message))
            if found is None:
                found = known[id(message)] = (message, sendable_message(message))
            cleaned.append(found[1])
            if found[1] is not message:
                self._note()
        return cleaned

    def settings(self, settings: ModelSettings | None) -> ModelSettings | None:
        """Return ``settings`` as they can be sent."""
        cleaned: ModelSettings | None = sendable(settings)
        if cleaned is not settings:
            self._note()
        return cleaned

    def parameters(self, parameters: ModelRequestParameters) -> ModelRequestParameters:
        """Return ``parameters`` with tools that can be sent; each list is looked at once."""
        tools = parameters.function_tools
        key = tuple(map(id, tools))
        known = self._tools.get(key)
        if known is None:
            if len(self._tools) >= _MOST:
                self._tools.clear()
            known = self._tools[key] = (tuple(tools), sendable(list(tools)))
        if all(one is two for one, two in zip(tools, known[1], strict=True)):
            return parameters
        self._note()
        return replace(parameters, function_tools=known[1])

    def _note(self) -> None:
        self._notes.give(
            "what no provider accepts (lone surrogates, NUL, numbers that are not finite) was "
            "replaced in what is sent to it"
        )
