"""Whoever watches a run: told before and after each request and call, and of scores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.tools import ToolDefinition

from pytest_siren.evaluation.pricing import Role
from pytest_siren.evaluation.tasks import ToolCall, ToolOutcome

if TYPE_CHECKING:
    from pytest_siren.evaluation.verdicts import StateScores


class StageObserver(Protocol):
    """Watches one run. What a method raises becomes the error of the run."""

    async def request_before(
        self,
        role: Role,
        model: str,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolDefinition],
    ) -> None:
        """``messages`` are about to be sent to ``model``."""
        ...

    async def request_after(
        self,
        role: Role,
        model: str,
        messages: Sequence[ModelMessage],
        response: ModelResponse | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """``model`` answered, or the request failed."""
        ...

    async def call_before(self, call: ToolCall, replayed: bool) -> None:
        """``call`` is about to be executed; ``replayed`` to restore a state."""
        ...

    async def call_after(
        self,
        call: ToolCall,
        replayed: bool,
        outcome: ToolOutcome | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """``call`` was executed, or the environment failed."""
        ...

    async def state_score(self, scores: StateScores, final: bool) -> None:
        """A state was scored; ``final`` for the one in which the run ended."""
        ...


@dataclass
class Observing:
    """Passes events of one run on, and keeps the first error for whoever would lose it."""

    observer: StageObserver | None = None
    failed: BaseException | None = None

    def check(self) -> None:
        """Raise what an observer raised, though the agent or the attack went on."""
        if self.failed is not None:
            raise self.failed

    async def notify(self, event: Callable[[StageObserver], Awaitable[None]]) -> None:
        """Await ``event`` of the observer, if there is one. Raises what it raises."""
        if self.observer is None:
            return
        try:
            await event(self.observer)
        except BaseException as error:
            self.failed = self.failed or error
            raise
