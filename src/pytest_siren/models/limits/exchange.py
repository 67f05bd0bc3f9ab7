"""What the HTTP transport tells of the request that a task is making."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from pytest_siren.models.limits.turns import Turn


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as seen by the transport."""

    turn: Turn | None = None
    headers: Mapping[str, str] | None = None
    """The latest answer's, with names in lower case; ``None`` when the transport is not ours."""

    def sent(self) -> None:
        """Take notice that the request has left, or that it takes longer to leave."""
        if self.turn is not None:
            self.turn.release()
            self.turn = None


EXCHANGE: ContextVar[Exchange | None] = ContextVar("pytest_siren_exchange", default=None)
"""The exchange of the request that is being made; ``None`` where nobody listens."""
