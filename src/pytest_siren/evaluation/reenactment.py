"""Executes known calls on a fresh environment, without an agent and without a model.

What follows from them can be judged again: by other evaluators, or for other calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    RetryPromptPart,
    ToolReturnPart,
)

from pytest_siren.evaluation.scoring import decode_calls
from pytest_siren.evaluation.states import OpenStates, is_refused
from pytest_siren.evaluation.tasks import BenignTask, Environment, ToolCall, ToolOutcome


@dataclass(frozen=True)
class Answered:
    """A call that was executed in a recorded run."""

    call: ToolCall
    text: str
    """What it returned then, as the model read it."""


def answered_calls(messages: Sequence[ModelMessage]) -> list[Answered]:
    """Return the calls in ``messages`` that have a result there, in the order of the results.

    A call without a result was never executed, nor was one whose arguments could not be decoded or
    that a defence refused.
    """
    asked: list[ToolCall] = []
    found: list[Answered] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            asked += decode_calls(message)
            continue
        for part in message.parts:
            if not isinstance(part, ToolReturnPart | RetryPromptPart) or part.tool_name is None:
                continue
            # Models and providers use ids again.
            call = next((one for one in asked if (one.id or "") == part.tool_call_id), None)
            if call is not None:
                asked.remove(call)
                if call.problem is None and not is_refused(part):
                    found.append(Answered(call, str(part.content)))
    return found


@dataclass(frozen=True)
class Reenacted:
    """The states before and after calls, which are open as long as the context."""

    before: Any
    """``None`` where the environment cannot copy states."""
    after: Any
    outcomes: Sequence[ToolOutcome]
    """Of each call, in order."""


@asynccontextmanager
async def reenacted(
    environment: Environment,
    task: BenignTask,
    contents: Mapping[str, str],
    calls: Sequence[ToolCall],
) -> AsyncIterator[Reenacted]:
    """Yield what ``calls`` lead to in a state of ``environment`` opened for ``task``.

    ``contents`` are planted in it. Raises what the environment raises.
    """
    states = OpenStates(environment, task)
    try:
        state = await states.open(contents)
        outcomes = [await environment.call(state, call) for call in calls]
        yield Reenacted(states.before(contents), state, outcomes)
    finally:
        await states.aclose()
