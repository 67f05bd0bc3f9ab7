"""The stage: one agent in one environment, driven step by step, backwards too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RunUsage, UsageLimits

from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.models import BillsErrors, ObservesContents
from pytest_siren.evaluation.responses import check_calls
from pytest_siren.evaluation.spending import Account
from pytest_siren.evaluation.states import (
    AgentState,
    End,
    Exposure,
    InitialRequest,
    InjectableModelRequest,
    State,
    marks_vectors,
    pending_request,
)
from pytest_siren.evaluation.tasks import (
    BenignTask,
    CopyableEnvironment,
    Environment,
    ToolCall,
    ToolOutcome,
)


class Agent(Protocol):
    """The loop that calls the model and the tools, as a function from one state to the next."""

    async def step(self, state: AgentState, stage: Stage) -> AgentState:
        """Return the state after ``state``. Raises ``ValueError`` for ``End``."""
        ...

    def tool_results(
        self, stage: Stage, calls: tuple[ToolCall, ...], outcomes: tuple[ToolOutcome, ...]
    ) -> ModelRequest:
        """Write the request that answers ``calls`` with ``outcomes``."""
        ...

    def user_request(self, stage: Stage, env_state: Any) -> ModelRequest:
        """Write the first request of the run."""
        ...


@dataclass
class Stage:
    """Drives ``agent`` through one run; the attack holds it and decides where to step.

    Use as an async context manager, which frees the environment.
    """

    agent: Agent
    environment: Environment
    task: BenignTask
    model: Model
    limits: UsageLimits
    rewinds: bool = False
    """Keep a copy of the environment per state, where it can be copied, for cheap ``back``."""
    stopped: bool = False
    """Whether the run takes no further step, for it was cancelled."""
    latest: State | None = None
    """The last state reached, for the record of a run that ends in an error."""
    account: Account = field(default_factory=Account)
    """What the run has used so far, also on ways that were gone back from."""
    exposure: Exposure = field(default_factory=Exposure)
    """Whether the model was sent planted content so far, also on ways that were gone back from."""
    _contents: Mapping[str, str] = field(default_factory=dict)
    """Those of the state that the agent steps from."""
    tools: int | None = None
    """Tools that the model was last offered; ``None`` before the first request."""
    _resources: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.exposure.marked = marks_vectors(self.agent)
        self.exposure.watched = not marks_vectors(self.environment)

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    async def begin(self, contents: Mapping[str, str]) -> InitialRequest:
        """Open the environment with ``contents``. Raises ``ValueError`` for unknown vectors."""
        if unknown := sorted(set(contents) - set(self.environment.vectors)):
            raise ValueError(f"no such injection vector: {', '.join(unknown)}")
        state = InitialRequest(
            messages=(),
            usage=RunUsage(),
            contents=dict(contents),
            executed=(),
            env_state=await self._open(contents),
            previous=None,
        )
        self.latest = state
        return state

    async def step(self, state: AgentState) -> AgentState:
        """Return the state that follows ``state``.

        Raises what the agent raises, and ``ToolCallLostError`` for an answer that asks for a tool
        and holds no call.
        """
        self._check_stopped()
        asked = self.account.usage.requests
        self._contents = state.contents
        reached = await self.agent.step(state, self)
        self.latest = reached
        if self.account.usage.requests == asked:
            # An agent of someone's own may have asked the model behind the stage's back.
            new = reached.messages[len(state.messages) :]
            self.exposure.take(new, state.contents)
            for message in new:
                if isinstance(message, ModelResponse):
                    self.account.add(message)
        for message in reached.messages[len(state.messages) :]:
            if isinstance(message, ModelResponse):
                check_calls(message)
        self.account.check(self.limits)
        return reached

    async def ask(
        self,
        messages: Sequence[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the model's answer to ``messages``, with its cost in ``usage``.

        Agents ask in this way, so that tokens and cost are counted whatever happens next. Raises
        what the model raises, and ``UsageLimitExceeded`` when a limit has been passed, also on
        ways that were gone back from.
        """
        self._check_stopped()
        self.account.check(self.limits)
        self.limits.check_before_request(self.account.usage)
        self.tools = len(parameters.function_tools)
        carried = self.exposure.sending(messages, self._contents)
        try:
            response = await self.model.request(list(messages), settings, parameters)
        finally:
            if implements(self.model, BillsErrors):
                for billed in self.model.take_billed():
                    self.account.add(billed)
        self.exposure.answered(carried)
        self.account.add(response)
        return response

    async def finish(self, state: AgentState) -> End:
        """Step until the agent ends."""
        while not isinstance(state, End):
            state = await self.step(state)
        return state

    async def back(self, state: AgentState) -> AgentState:
        """Return the state before ``state``, its environment as it was then.

        Raises ``ValueError`` at the first state.
        """
        if state.previous is None:
            raise ValueError("there is no state before the first")
        return await self._restore(state.previous)

    async def inject(
        self, state: InjectableModelRequest, contents: Mapping[str, str]
    ) -> InjectableModelRequest:
        """Plant ``contents`` instead, and return ``state`` as it would have been with them.

        The environment is opened anew and all calls are replayed, so that what the tools return and
        what they leave behind agree with the new contents. Earlier messages stay as the model read
        them.
        """
        env_state = await self._open(contents)
        outcomes = [await self._call(env_state, call) for call in state.executed]
        if state.results_of:
            answered = state.executed[-state.results_of :]
            request = self.agent.tool_results(self, answered, tuple(outcomes[-state.results_of :]))
        else:
            request = self.agent.user_request(self, env_state)
        changed = replace(state, contents=dict(contents), env_state=env_state, request=request)
        self.latest = changed
        return changed

    async def execute(
        self, state: State, calls: tuple[ToolCall, ...]
    ) -> tuple[Any, tuple[ToolOutcome, ...]]:
        """Execute ``calls`` after ``state``; return the environment's state and the outcomes."""
        env_state = state.env_state
        if self.rewinds and implements(self.environment, CopyableEnvironment):
            env_state = self.environment.copy(env_state)
        self.account.usage.tool_calls += len(calls)
        outcomes = [await self._call(env_state, call) for call in calls]
        return env_state, tuple(outcomes)

    def messages(self) -> tuple[ModelMessage, ...]:
        """Return the conversation so far, with the request that was being sent."""
        if self.latest is None:
            return ()
        return (*self.latest.messages, *pending_request(self.latest))

    def usage(self) -> RunUsage:
        """Return all that the run has used, also on ways that were gone back from."""
        if self.account.usage.requests or self.latest is None:
            return self.account.usage
        return self.latest.usage

    def _check_stopped(self) -> None:
        """Raise ``CancelledError`` in a run that was stopped, though its code took no notice."""
        if self.stopped:
            raise asyncio.CancelledError("the run was stopped")

    async def _restore(self, state: AgentState) -> AgentState:
        if self.rewinds and implements(self.environment, CopyableEnvironment):
            return state
        env_state = await self._open(state.contents)
        for call in state.executed:
            await self._call(env_state, call)
        return replace(state, env_state=env_state)

    async def _call(self, env_state: Any, call: ToolCall) -> ToolOutcome:
        self._check_stopped()
        if call.problem is not None:
            return ToolOutcome(call.problem, error=True)
        return await self.environment.call(env_state, call)

    async def _open(self, contents: Mapping[str, str]) -> Any:
        self.exposure.plant(contents)
        if implements(self.model, ObservesContents):
            self.model.planted(contents)
        await self._resources.aclose()
        return await self._resources.enter_async_context(self.environment.open(self.task, contents))
