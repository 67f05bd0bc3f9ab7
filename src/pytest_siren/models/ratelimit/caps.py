"""Caps per minute (generic cell rate algorithm, ITU-T I.371, annex A), and what counts for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage, ModelRequest

from pytest_siren.models.ratelimit.shared_cells import Cell, SharedCells

_MINUTE = 60.0
_KEPT = 1.0
"""Seconds for which a place that was taken may be used, at least."""
_NEARLY = 1e-9


class RateCap:
    """At most so many units a minute, evenly; what fits into one second may come at once."""

    def __init__(self, cells: SharedCells, cell: Cell, per_minute: float) -> None:
        self._cells = cells
        self._cell = cell
        burst = max(1.0, per_minute // _MINUTE)
        # No minute holds more than ``per_minute``, though a burst may open it.
        self.pace = max(per_minute - burst + 1.0, min(per_minute, 1.0)) / _MINUTE
        """Units a second."""
        self._interval = 1.0 / self.pace
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


class Portion:
    """What one process has taken of a cap, and not sent yet.

    Places are taken in advance, each process's after those that others have taken, so that nobody
    has to ask again when his time has come. Where the lock of the cells is dear, a process takes at
    once what it is going to send within its part of ``cells.portion`` seconds. What it does not use
    it gives back when it takes again; in the meantime others wait in vain, for a second at most.
    """

    def __init__(self, cells: SharedCells, cap: RateCap, processes: int) -> None:
        self._cells = cells
        self._cap = cap
        self._processes = processes
        self._units = 0.0
        """Units that were taken and not sent."""
        self._owed = 0.0
        """Units that were sent and not taken; below 0 those that were taken in vain."""
        self._opens_at = 0.0
        self._expires_at = 0.0
        self._sent = 0.0
        self._taken_at = 0.0

    def wait(self, now: float, units: float) -> float | None:
        """Return the seconds until so many units may go; ``None`` if they have to be taken."""
        if self._units < units - _NEARLY or now > self._expires_at:
            return None
        return max(0.0, self._opens_at - now)

    def take(self, now: float, units: float, waiting: float) -> None:
        """Take what ``units``, and others that are ``waiting``, need; hold the lock."""
        self._expire(now)
        self.settle()
        seconds = self._cells.portion
        likely = self._sent * seconds / max(now - self._taken_at, _NEARLY)
        more = min(max(waiting, likely), self._most) - self._units
        taken = max(units - self._units, more)
        self._opens_at = now + self._cap.wait(now)
        self._expires_at = self._opens_at + max(_KEPT, seconds)
        self._cap.take(now, taken)
        self._units += taken
        self._sent, self._taken_at = 0.0, now

    def spend(self, units: float) -> None:
        """Send units that may go now."""
        self._units -= units
        self._sent += units

    def correct(self, units: float) -> bool:
        """Count ``units`` more, or less than were sent; tell whether others should know now."""
        self._owed += units
        return abs(self._owed) > self._most

    def settle(self) -> None:
        """Take what was sent and not taken, or give back what was not sent; hold the lock."""
        self._cap.correct(self._owed)
        self._owed = 0.0

    @property
    def _most(self) -> float:
        """Units that this process may take in advance."""
        return math.ceil(self._cap.pace * self._cells.portion / self._processes)

    def _expire(self, now: float) -> None:
        """Give back what was not sent in time, unless nobody can make up for it any more."""
        expired = now - self._expires_at
        if expired > 0.0:
            if expired <= _KEPT:
                self._owed -= self._units
            self._units = 0.0


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
