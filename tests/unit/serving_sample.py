"""A run that is served, with a model that answers what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from pytest_siren.evaluation.stage import Stage
from pytest_siren.evaluation.world import World
from pytest_siren.serving.served import Served
from pytest_siren.serving.shared import serve
from tests.unit.test_stage import TASK, MailEnvironment

T = TypeVar("T")
HELLO = ModelResponse([TextPart("hello")])


def run(work: Awaitable[T]) -> T:
    return asyncio.run(work)  # type: ignore[arg-type]


@dataclass
class Asked:
    """What reached the model of a run."""

    messages: list[ModelMessage]
    settings: ModelSettings | None
    parameters: ModelRequestParameters


class ScriptedModel(Model[Any]):
    """Gives answers in their order, or raises them; the last again and again."""

    def __init__(self, answers: Iterable[ModelResponse | BaseException] = (HELLO,)) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self.waits: Callable[[], Awaitable[object]] | None = None

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        self.asked.append(Asked(messages, model_settings, model_request_parameters))
        if self.waits is not None:
            await self.waits()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def model_name(self) -> str:
        return "scripted"

    @property
    def system(self) -> str:
        return "test"


@dataclass
class Stand:
    """One served run, and the official clients of its endpoint."""

    world: World
    served: Served
    model: ScriptedModel
    openai: AsyncOpenAI
    anthropic: AsyncAnthropic
    clients: list[Any] = field(default_factory=list)

    @property
    def last(self) -> Asked:
        return self.model.asked[-1]


@asynccontextmanager
async def world_of(
    model: Model[Any] | None = None,
    environment: MailEnvironment | None = None,
    contents: dict[str, str] | None = None,
    limits: UsageLimits | None = None,
) -> AsyncIterator[World]:
    stage = Stage(
        agent=None,  # type: ignore[arg-type]
        environment=environment or MailEnvironment(),
        task=TASK,
        model=model or ScriptedModel(),
        limits=limits or UsageLimits(request_limit=None),
    )
    async with stage:
        world = World(stage, await stage.begin(contents or {}))
        try:
            yield world
        finally:
            await world.close()


@asynccontextmanager
async def standing(*answers: ModelResponse | BaseException, **options: Any) -> AsyncIterator[Stand]:
    model = ScriptedModel(answers or (HELLO,))
    async with (
        world_of(model, **options) as world,
        serve(world) as served,
        AsyncOpenAI(base_url=served.base_url, api_key=served.token) as openai,
        AsyncAnthropic(base_url=served.anthropic_url, api_key=served.token) as anthropic,
    ):
        yield Stand(world, served, model, openai, anthropic)


def stood(test: Callable[[Stand], Awaitable[T]], *answers: ModelResponse | BaseException,
          **options: Any) -> T:  # fmt: skip
    """Return what ``test`` returns of a run whose model gives ``answers``."""

    async def go() -> T:
        async with standing(*answers, **options) as stand:
            return await test(stand)

    return run(go())
