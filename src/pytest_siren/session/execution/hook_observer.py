"""Calls the hooks that watch a run as it goes on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_siren.payloads import (
    CallInfo,
    OutcomeInfo,
    RequestInfo,
    ResponseInfo,
    RunInfo,
    ScoreInfo,
)

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.tools import ToolDefinition

    from pytest_siren.evaluation.spending import Role
    from pytest_siren.evaluation.tasks import ToolCall, ToolOutcome
    from pytest_siren.evaluation.verdicts import StateScores

_HOOKS = (
    "pytest_siren_request_before",
    "pytest_siren_request_after",
    "pytest_siren_call_before",
    "pytest_siren_call_after",
    "pytest_siren_state_score",
)


@dataclass(frozen=True)
class HookObserver:
    """A ``StageObserver`` that gives frozen payloads to the hooks."""

    hooks: Any
    """Those of the run's item."""
    run: RunInfo

    @classmethod
    def of(cls, hooks: Any, run: RunInfo) -> HookObserver | None:
        """Return an observer of ``run``; ``None`` if nobody implements any of the hooks."""
        if any(getattr(hooks, name).get_hookimpls() for name in _HOOKS):
            return cls(hooks, run)
        return None

    async def request_before(
        self,
        role: Role,
        model: str,
        messages: Sequence[ModelMessage],
        tools: Sequence[ToolDefinition],
    ) -> None:
        """See ``StageObserver``."""
        request = RequestInfo(self.run, role.value, model, messages, tools)
        await _done(self.hooks.pytest_siren_request_before(request=request))

    async def request_after(
        self,
        role: Role,
        model: str,
        messages: Sequence[ModelMessage],
        response: ModelResponse | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """See ``StageObserver``."""
        found = ResponseInfo(self.run, role.value, model, messages, response, error, seconds)
        await _done(self.hooks.pytest_siren_request_after(response=found))

    async def call_before(self, call: ToolCall, replayed: bool) -> None:
        """See ``StageObserver``."""
        found = CallInfo(self.run, call, replayed)
        await _done(self.hooks.pytest_siren_call_before(call=found))

    async def call_after(
        self,
        call: ToolCall,
        replayed: bool,
        outcome: ToolOutcome | None,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        """See ``StageObserver``."""
        found = OutcomeInfo(self.run, call, replayed, outcome, error, seconds)
        await _done(self.hooks.pytest_siren_call_after(outcome=found))

    async def state_score(self, scores: StateScores, final: bool) -> None:
        """See ``StageObserver``."""
        score = ScoreInfo(self.run, scores, final)
        await _done(self.hooks.pytest_siren_state_score(score=score))


async def _done(returned: list[object]) -> None:
    for one in returned:
        if inspect.isawaitable(one):
            await one
