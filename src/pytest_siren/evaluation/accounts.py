"""Who asks models during a run, the account that all of them share, and who watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import UsageLimits

from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.models import (
    BillsErrors,
    ModelSource,
    ModelUnavailableError,
    RunContext,
)
from pytest_siren.evaluation.pricing import Accounts, Role
from pytest_siren.evaluation.tasks import (
    BenignTask,
    Evaluator,
    Evidence,
    MaliciousTask,
    ToolCall,
    ToolOutcome,
)
from pytest_siren.evaluation.verdicts import Judgement

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


@dataclass
class Asking:
    """Asks the models of one run."""

    limits: UsageLimits
    accounts: Accounts = field(default_factory=Accounts)
    observing: Observing = field(default_factory=Observing)
    _unavailable: tuple[BaseException, str] | None = None

    @contextmanager
    def of_model(self, model_id: str) -> Iterator[None]:
        """Note of an error in this block that says that a model is unavailable which one it is."""
        try:
            yield
        except ModelUnavailableError as error:
            self._unavailable = error, model_id
            raise

    def unavailable(self, error: BaseException) -> str | None:
        """Return the model that is unavailable, if that is what ``error`` says."""
        if not isinstance(error, ModelUnavailableError):
            return None
        if self._unavailable is not None and self._unavailable[0] is error:
            return self._unavailable[1]
        return self.accounts.model_id

    def check(self) -> None:
        """Raise ``UsageLimitExceeded`` when the run has used more than its limits.

        Raises ``CostUnknownError`` or ``UsageUnknownError`` when nobody can tell.
        """
        self.accounts.total.check(self.limits)

    def check_before_request(self) -> None:
        """Raise as ``check`` does, and when no further request is allowed."""
        if not self.accounts.final:
            self.check()
            self.limits.check_before_request(self.accounts.total.usage)

    async def ask(
        self,
        role: Role,
        model_id: str,
        model: Model,
        messages: Sequence[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the answer of ``model``, with its cost in ``usage``.

        Raises what the model and what observers raise.
        """
        account = self.accounts.of(role, model_id)
        notify = self.observing.notify
        tools = parameters.function_tools
        await notify(lambda on: on.request_before(role, model_id, messages, tools))
        began = time.monotonic()
        try:
            with self.of_model(model_id):
                response = await model.request(list(messages), settings, parameters)
        except BaseException as error:
            self._bill(model, role, model_id)
            failure, seconds = error, time.monotonic() - began
            await notify(
                lambda on: on.request_after(role, model_id, messages, None, failure, seconds)
            )
            raise
        self._bill(model, role, model_id)
        account.add(response)
        took = time.monotonic() - began
        await notify(lambda on: on.request_after(role, model_id, messages, response, None, took))
        return response

    def _bill(self, model: Model, role: Role, model_id: str) -> None:
        if implements(model, BillsErrors):
            for billed in model.take_billed():
                self.accounts.of(role, model_id).add(billed)


@dataclass(frozen=True)
class Verdict:
    """What a judge found."""

    score: float
    """0..1."""
    reason: str


Ask: TypeAlias = Callable[[Sequence[ModelMessage]], Awaitable[ModelResponse]]
"""Sends a conversation to the judge's model and returns its answer."""


@runtime_checkable
class ModelJudge(Protocol):
    """An evaluator that asks a model."""

    judge_model: str
    """Name of the model, as agents name theirs."""

    async def judge(self, evidence: Evidence, ask: Ask) -> Verdict:
        """Return the verdict on a run. What it raises is the run's error."""
        ...


@dataclass
class Judging:
    """The judges of one run: their models, and what they used."""

    context: RunContext
    sources: Mapping[str, ModelSource] = field(default_factory=dict)
    asking: Asking = field(default_factory=lambda: Asking(UsageLimits(request_limit=None)))
    stopped: bool = False
    """Whether the run was asked to stop."""

    async def judge(self, name: str, judge: ModelJudge, evidence: Evidence) -> Judgement:
        """Ask ``judge``, which is called ``name``, and return its verdict."""
        source = self.sources[judge.judge_model]

        async def ask(messages: Sequence[ModelMessage]) -> ModelResponse:
            return await self._ask(source, messages)

        found = await judge.judge(evidence, ask)
        return Judgement(name, source.id, found.score, found.reason)

    async def _ask(self, source: ModelSource, messages: Sequence[ModelMessage]) -> ModelResponse:
        if self.stopped:
            raise asyncio.CancelledError("the run was stopped")
        self.asking.check_before_request()
        with self.asking.of_model(source.id):
            model = await source.bind(self.context)
        parameters = ModelRequestParameters()
        return await self.asking.ask(Role.JUDGE, source.id, model, messages, None, parameters)


def judge_models(tasks: Iterable[BenignTask | MaliciousTask]) -> list[str]:
    """Return the models that evaluators of ``tasks`` ask, each once."""
    found: dict[str, None] = {}
    for task in tasks:
        for evaluator in task.evaluators.values():
            if is_judge(evaluator):
                found[evaluator.judge_model] = None  # type: ignore[attr-defined]
    return list(found)


def is_judge(evaluator: Evaluator) -> bool:
    """Tell whether ``evaluator`` asks a model."""
    return implements(evaluator, ModelJudge)
