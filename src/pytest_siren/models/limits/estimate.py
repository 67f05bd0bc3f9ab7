"""How many tokens a request will have, roughly."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage, ModelRequest

_CHARACTERS = 4
_SMOOTHING = 0.2


class Estimate:
    """Four characters a token, and what the answers before had beyond that: tools, and output."""

    def __init__(self) -> None:
        self._beyond = 0.0

    def of(self, messages: Sequence[ModelMessage]) -> float:
        """Return the tokens that a request with ``messages`` will cost, with its answer."""
        return max(1.0, _text(messages) / _CHARACTERS + self._beyond)

    def learn(self, messages: Sequence[ModelMessage], tokens: int) -> None:
        """Take notice that a request with ``messages`` has cost ``tokens``."""
        beyond = tokens - _text(messages) / _CHARACTERS
        self._beyond += (beyond - self._beyond) * (_SMOOTHING if self._beyond else 1.0)


def _text(messages: Sequence[ModelMessage]) -> int:
    characters = 0
    for message in messages:
        for part in message.parts:
            content = getattr(part, "content", None) or getattr(part, "args", None)
            if isinstance(content, str):
                characters += len(content)
            elif content is not None:
                characters += len(str(content))
        if isinstance(message, ModelRequest) and message.instructions:
            characters += len(message.instructions)
    return characters
