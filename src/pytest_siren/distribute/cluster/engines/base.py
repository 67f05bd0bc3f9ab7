"""What a session asks of the engine that starts its elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_siren.distribute.cluster.element import Element
    from pytest_siren.distribute.cluster.settings import Settings


class EngineError(Exception):
    """The engine refused what was asked of it, or does not answer; says so in its own words."""


class SubmitError(EngineError):
    """The engine did not accept any of the elements; says why and what to do."""


class ElementState(Enum):
    """Where an element is between its submission and its end."""

    PENDING = "waits for the engine to start it, for the first time or again"
    RUNNING = "runs"
    ENDED = "will not run any more"
    UNKNOWN = "has left no result, and the engine does not answer"


@dataclass(frozen=True)
class ElementStatus:
    """What the engine knows of an element."""

    state: ElementState
    reason: str = ""
    """Why it waits or how it failed, in the engine's words: ``Resources``, ``NODE_FAIL``; may have
    several lines. Empty where there is nothing to say."""
    log: Path | None = None
    """The file with what the element wrote; may not be there yet."""
    failed: bool = False
    """Whether it ended otherwise than by itself, or a process of it failed."""
    cancelled: bool = False
    """Whether somebody cancelled it, who would not want another one in its place."""
    broken: bool = False
    """Whether no process of it could even begin: another element would fail in the same way."""


class Engine(Protocol):
    """Starts elements and follows them.

    Everything but ``submit`` works in any process that knows the engine's folder and the ids, also
    after the process that submitted has gone. Ids are unique in a folder.
    """

    name: str
    """As in ``--siren-executor``."""

    def submit(self, elements: Sequence[Element], settings: Settings) -> list[str]:
        """Submit ``elements`` as one array; return their ids in the same order.

        Raises ``SubmitError``, and then none of them will run.
        """
        ...

    def statuses(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return the status of each element. Asks the engine once, however many there are."""
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """End these elements, and start none of them any more; those that ended are passed over.

        Raises ``EngineError`` where the engine does not answer.
        """
        ...

    def drive(self) -> None:
        """Execute what this engine executes in the calling process, if anything."""
        ...

    def close(self) -> None:
        """Let go of what the engine holds in this process; elements go on."""
        ...
