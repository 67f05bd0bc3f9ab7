"""What the transport notices of the answer to a request, for whoever made the request."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic_ai.usage import RequestUsage

from pytest_siren.models.wire.apis import Api
from pytest_siren.models.wire.usage import billed

_EXCERPT = 400


@dataclass(slots=True)
class Received:
    """The latest answer to one request, if its status is that of an answer."""

    api: Api | None = None
    content: bytes | None = None
    """The body; ``None`` when the transport has seen no answer."""
    body: Any = None
    """Its JSON data."""
    usage_problem: str | None = None
    """What is odd about its usage, as the end of a sentence: ``is missing``."""
    measured: bool = True
    """Whether all of its tokens are known."""

    @property
    def excerpt(self) -> str:
        """The beginning of the body, for messages."""
        return (self.content or b"")[:_EXCERPT].decode(errors="replace").strip()

    def billed(self) -> RequestUsage | None:
        """Return the tokens that the body tells of, be it an answer or none."""
        if self.api is None or not isinstance(self.body, Mapping):
            return None
        return billed(self.api, self.body)


RECEIVED: ContextVar[Received | None] = ContextVar("pytest_siren_received", default=None)
"""Of the request that is being made; ``None`` where nobody wants to know."""
