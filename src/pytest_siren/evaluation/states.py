"""The states an agent passes through, so that an attack can watch, go back and resume.

    InitialRequest -> [InjectableModelRequest ->] ModelRequestReady -> ModelResponseReceived
        -> [InjectableModelRequest ->] ModelRequestReady -> ... -> End

A state is never changed. It keeps the calls executed so far, so the environment can be rebuilt at
any state by opening it anew and replaying them, whether or not its states can be copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.usage import RunUsage

from pytest_siren.evaluation.tasks import ToolCall

INJECTED_VECTORS = "injected_vectors"
"""Key in a request's metadata: the vectors whose planted content the request shows."""


class EndReason(StrEnum):
    """Why an agent stopped."""

    ANSWERED = "answered"
    """The model answered without asking for a tool."""
    STOPPED = "stopped"
    """The model said that this response is its last, whatever it asks for."""


@dataclass(frozen=True)
class State:
    """What every state knows."""

    messages: tuple[ModelMessage, ...]
    """The conversation so far, without the request that is being prepared."""
    usage: RunUsage
    contents: Mapping[str, str]
    """Injection vector to the content planted for it."""
    executed: tuple[ToolCall, ...]
    """Calls executed so far, in order."""
    env_state: Any
    previous: AgentState | None


@dataclass(frozen=True)
class InitialRequest(State):
    """Before anything: the contents are planted, the user's request is not yet written."""


@dataclass(frozen=True)
class InjectableModelRequest(State):
    """A request in which the model will read planted content; the attacker may still change it."""

    request: ModelRequest
    vectors: frozenset[str]
    """The injection vectors that show in ``request``."""
    results_of: int
    """How many of the last ``executed`` calls ``request`` answers; 0 for the user's own request."""


@dataclass(frozen=True)
class ModelRequestReady(State):
    """A finished request, not yet sent."""

    request: ModelRequest


@dataclass(frozen=True)
class ModelResponseReceived(State):
    """The model answered; its calls are not yet executed."""

    response: ModelResponse


@dataclass(frozen=True)
class End(State):
    """The agent stopped."""

    reason: EndReason


AgentState: TypeAlias = (
    InitialRequest | InjectableModelRequest | ModelRequestReady | ModelResponseReceived | End
)


def injected_vectors(request: ModelRequest) -> frozenset[str]:
    """Return the vectors whose planted content ``request`` shows, as its metadata tells."""
    return frozenset((request.metadata or {}).get(INJECTED_VECTORS, ()))


def pending_request(state: State) -> tuple[ModelRequest, ...]:
    """Return the request that ``state`` was about to send, if any."""
    if isinstance(state, InjectableModelRequest | ModelRequestReady):
        return (state.request,)
    return ()
