"""What all processes of a session share, whatever it lies on: ``Board`` or ``SharedFiles``.

An executor chooses which. ``Board`` is a file that the processes of one host map into their memory;
``SharedFiles`` are small files in a folder that hosts share.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from enum import IntEnum
from typing import Protocol


class Gauge(IntEnum):
    """Numbers of a process. The first three tell its present state, the others only grow."""

    RUNNING = 1
    """Runs in flight."""
    HELD = 2
    """Runs in flight that wait for a rate limit."""
    RESUMES_AT = 3
    """When the first of those may go on, in seconds since the epoch; 0 when none waits."""
    REQUESTS = 4
    """Model requests answered with success."""
    RETRIES = 5
    """Model requests that were refused or failed, and were sent again."""
    INPUT_TOKENS = 6
    OUTPUT_TOKENS = 7
    COST = 8
    """US dollars of priced requests."""
    UNPRICED = 9
    """Answers for whose model no price is known."""
    CANCELLED = 10
    """Runs that were cancelled in flight."""
    HUNG = 11
    """Calls that went on when the process ended, though their runs had been stopped."""
    ENDED = 12
    """Runs whose outcome is recorded, in this session or before, as far as pytest may report it."""


PRESENT = frozenset({Gauge.RUNNING, Gauge.HELD, Gauge.RESUMES_AT})
"""Gauges that a process which is no more has no part in."""
KEY_CELLS = 16
"""Shared cells of each key."""


class SharedStateError(Exception):
    """There is no place for the state of a session, or no process can join it any more."""


class KeyCells(Protocol):
    """Numbers that belong to one key, such as a model: shared ones, and two of this process."""

    in_flight: int
    """Requests of this process in flight."""
    waiting: int
    """Requests of this process that wait for a place."""

    def __getitem__(self, cell: int) -> float: ...

    def __setitem__(self, cell: int, value: float) -> None:
        """Set a shared cell; hold ``lock()`` where the new value depends on the old."""
        ...

    def total_in_flight(self) -> int:
        """Return how many requests all living processes have in flight."""
        ...

    def total_waiting(self) -> int:
        """Return how many requests of all living processes wait."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Keep all others from changing shared cells; do not enter it twice."""
        ...


class SharedState(Protocol):
    """One process's view of what its session shares.

    A process sets its own gauges and reads everybody's. One that is killed leaves its counters
    behind, and nobody waits for it.
    """

    @property
    def clock(self) -> Callable[[], float]:
        """Clock of the times in shared cells, in seconds; the same in all processes."""
        ...

    def close(self) -> None:
        """Leave: nothing is running here any more."""
        ...

    # This process's own gauges, and everybody's.

    def __getitem__(self, gauge: Gauge) -> float: ...

    def __setitem__(self, gauge: Gauge, value: float) -> None: ...

    def total(self, gauge: Gauge) -> float:
        """Return the sum over all processes; of present states, over those that are alive."""
        ...

    def earliest(self, gauge: Gauge) -> float:
        """Return the least value but 0 among the processes that are alive; 0 without one."""
        ...

    # What is asked of all processes.

    def stop(self, reason: str) -> None:
        """Ask every process to stop; the first reason stands."""
        ...

    @property
    def stopped(self) -> str | None:
        """Why every process shall stop; ``None`` while nobody asked for it."""
        ...

    def settle(self) -> None:
        """Tell every process that no further runs are needed; those in flight go on."""
        ...

    @property
    def settled(self) -> bool:
        """Whether no further runs are needed."""
        ...

    def unpriced(self, reason: str) -> None:
        """Count an answer whose cost nobody knows; the first reason stands."""
        ...

    @property
    def why_unpriced(self) -> str | None:
        """Why the cost of an answer is unknown; ``None`` while all are known."""
        ...

    # Processes that died.

    @property
    def lost(self) -> int:
        """How many processes have died so far."""
        ...

    def count_lost(self, pid: int) -> None:
        """Note that the process ``pid`` of this host died: nothing is running there any more."""
        ...

    # What belongs to a key, such as a model.

    def key(self, name: str) -> KeyCells:
        """Return the cells of ``name``, the same for every process. Raises ``SharedStateError``."""
        ...

    def stop_key(self, name: str, reason: str) -> None:
        """Ask every process to begin nothing more on the key ``name``; the first reason stands."""
        ...

    def key_stopped(self, name: str) -> str | None:
        """Return why nothing more is begun on the key ``name``; ``None`` while something may be."""
        ...

    def stopped_keys(self) -> list[str]:
        """Return the reasons for which keys are stopped."""
        ...


class SharedSpend:
    """Adds the answers of this process to what its session spends."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def add(
        self, input_tokens: int, output_tokens: int, cost: Decimal | None, unknown: str = ""
    ) -> None:
        state = self._state
        state[Gauge.INPUT_TOKENS] += input_tokens
        state[Gauge.OUTPUT_TOKENS] += output_tokens
        if cost is None:
            state.unpriced(unknown)
        elif cost:
            state[Gauge.COST] += float(cost)
