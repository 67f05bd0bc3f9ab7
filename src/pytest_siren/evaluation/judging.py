"""Evaluators that ask a model: what they say, and what they use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.usage import UsageLimits

from pytest_siren.evaluation.asking import Asking
from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.models import ModelSource, RunContext
from pytest_siren.evaluation.spending import Role
from pytest_siren.evaluation.tasks import BenignTask, Evaluator, Evidence, MaliciousTask
from pytest_siren.evaluation.verdicts import Judgement


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
