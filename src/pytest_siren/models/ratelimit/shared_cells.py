"""The state of a rate limiter: shared by all processes of a session, or of one process alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Protocol


class Cell(IntEnum):
    """Shared cells of a rate limiter. Times are seconds of ``SharedState.clock``; 0 is never."""

    LIMIT = 0
    """Most requests in flight; 0 before the first process has set it."""
    RAISED_AT = 1
    """When ``LIMIT`` was last raised, lowered, or found as high as it may be."""
    LOWERED_AT = 2
    PAUSED_UNTIL = 3
    REFUSALS = 4
    """How many requests were refused since the last success."""
    PAUSES = 5
    """How many pauses there were since the last success for refusals that gave no time."""
    SUCCEEDED = 6
    """1 when a request has succeeded in this session."""
    REQUESTS_AT = 7
    """Theoretical arrival time of the next request."""
    TOKENS_AT = 8
    """The same for tokens."""
    REFUSED_AT = 9
    """When the first of ``REFUSALS`` was."""
    REJECTED = 10
    """How many requests were rejected for a reason that the provider did not explain."""
    CALM = 11
    """Seconds of success since the last refusal, while ``LIMIT`` was below the ceiling."""


class SharedCells(Protocol):
    """Numbers that are shared by all processes of a session; ``KeyCells`` are such."""

    in_flight: int
    """Requests of this process in flight."""
    waiting: int
    """Requests of this process that wait for a place."""

    @property
    def portion(self) -> float:
        """Seconds of a cap that all processes may take in advance; 0 where a lock costs little."""
        ...

    def __getitem__(self, cell: int) -> float: ...

    def __setitem__(self, cell: int, value: float) -> None: ...

    def assign(self, values: Mapping[int, float]) -> None:
        """Set some cells at once, where the new values do not depend on the old."""
        ...

    def total_in_flight(self) -> int:
        """Return how many requests all processes have in flight."""
        ...

    def total_waiting(self) -> int:
        """Return how many requests wait for a place in all processes."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep all others from changing shared cells; do not enter it twice."""
        ...


class LocalCells:
    """Cells of one process alone."""

    portion = 0.0

    def __init__(self) -> None:
        self.in_flight = self.waiting = 0
        self._cells = [0.0] * len(Cell)

    def __getitem__(self, cell: int) -> float:
        return self._cells[cell]

    def __setitem__(self, cell: int, value: float) -> None:
        self._cells[cell] = value

    def assign(self, values: Mapping[int, float]) -> None:
        for cell, value in values.items():
            self._cells[cell] = value

    def total_in_flight(self) -> int:
        return self.in_flight

    def total_waiting(self) -> int:
        return self.waiting

    def lock(self) -> AbstractContextManager[None]:
        return nullcontext()
