"""Caps per minute (generic cell rate algorithm, ITU-T I.371, annex A), and what counts for them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage, ModelRequest

from pytest_siren.models.ratelimit.shared_cells import Cell, SharedCells

_MINUTE = 60.0


class RateCap:
    """At most so many units a minute, evenly; what fits into one second may come at once."""

    def __init__(self, cells: SharedCells, cell: Cell, per_minute: float) -> None:
        self._cells = cells
        self._cell = cell
        burst = max(1.0, per_minute // _MINUTE)
        # No minute holds more than ``per_minute``, though a burst may open it.
        self._interval = _MINUTE / max(per_minute - burst + 1.0, min(per_minute, 1.0))
        self._tolerance = self._interval * (burst - 1.0)

    def wait(self, now: float) -> float:
        """Return the seconds until the next unit may go; 0 when it may now."""
        return max(0.0, self._cells[self._cell] - self._tolerance - now)

    def take(self, now: float, units: float) -> None:
        """Count ``units`` as sent at ``now``; hold the lock. They may be more than a burst."""
        arrival = max(self._cells[self._cell], now)
        self._cells[self._cell] = arrival + units * self._interval

    def correct(self, units: float) -> None:
        """Count ``units`` more, or less than were taken; hold the lock."""
        self._cells[self._cell] = max(0.0, self._cells[self._cell] + units * self._interval)


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
        """Learn that a request with ``messages`` has cost ``tokens``."""
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
