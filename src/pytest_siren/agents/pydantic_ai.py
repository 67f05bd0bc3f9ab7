"""The agent ``pydantic_ai``: an ``Agent`` of the project as it is."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_ai import Agent
from pydantic_ai.models import infer_model
from pydantic_ai.tools import RunContext, Tool
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import UsageLimits
from pydantic_core import to_json

from pytest_siren.agents.addresses import Addresses
from pytest_siren.agents.black_box import BlackBox, ModelledConfig
from pytest_siren.agents.threads import in_own_thread
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.models import NoModel
from pytest_siren.evaluation.tasks import ToolOutcome
from pytest_siren.evaluation.world import World
from pytest_siren.evaluators.python import (
    ImportPath,
    ImportPathError,
    load_callable,
    load_object,
    local_file,
)


class PydanticAgentConfig(ModelledConfig):
    """Configuration of the agent ``pydantic_ai``."""

    target: ImportPath = Field(
        description="module:name of an Agent, or of a function that returns one; beside the eval "
        "file, in the root folder or installed"
    )
    deps: ImportPath | None = Field(
        default=None, description="module:name of a function that returns the deps of a run"
    )


class PydanticAgent(BlackBox):
    """Runs an ``Agent`` with its own instructions and tools; the dataset's tools come in addition.

    Its model is that of the run or, where none is named, its own, whose requests are limited,
    counted and recorded as well.
    """

    def __init__(self, config: PydanticAgentConfig, base: Path) -> None:
        super().__init__(config)
        self._path = config.target
        self._target = load_object(config.target, base)
        self._deps = load_callable(config.deps, base) if config.deps else None
        paths = [config.target, *([config.deps] if config.deps else [])]
        self.sources = tuple(filter(None, (local_file(path, base) for path in paths)))
        if not (isinstance(self._target, Agent) or callable(self._target)):
            kind = type(self._target).__name__
            raise ImportPathError(
                f"{self._path!r} is {kind}: it must be an Agent of pydantic-ai, "
                "or a function that returns one"
            )

    @property
    def spoken_name(self) -> str:
        return self._path

    async def answer(self, world: World, addresses: Addresses) -> object:
        """Return the output as a text: JSON where it is none. Raises what the agent raises."""
        agent = self._target
        if not isinstance(agent, Agent):
            agent = await _made(agent)
        if not isinstance(agent, Agent):
            raise TypeError(f"{self._path} returned {type(agent).__name__}, not an Agent")
        model = world.model
        if world.stage.account.model_id == NoModel.id:
            if agent.model is None:
                raise ValueError(
                    f"{self._path} has no model: name one with agent.config.model or --model"
                )
            model = world.watched(infer_model(agent.model))
        done = await agent.run(
            world.prompt,
            model=model,
            deps=await _made(self._deps) if self._deps else None,
            instructions=world.system_prompt,
            toolsets=[FunctionToolset(_tools(world))] if world.tools else None,
            usage_limits=UsageLimits(request_limit=None),  # the run has limits of its own
        )
        output = done.output
        return output if isinstance(output, str) else to_json(output, fallback=str).decode()


async def _made(factory: Any) -> Any:
    if inspect.iscoroutinefunction(factory):
        return await factory()
    made = await in_own_thread(partial(factory))
    return await made if inspect.isawaitable(made) else made


def _tools(world: World) -> list[Tool[Any]]:
    async def call(context: RunContext[Any], **arguments: Any) -> str:
        name = context.tool_name or ""
        outcome: ToolOutcome = await world.call(name, arguments, context.tool_call_id)
        return outcome.text

    return [
        Tool.from_schema(
            call,
            name=tool.name,
            description=tool.description,
            json_schema=tool.parameters_json_schema,
            takes_ctx=True,
            sequential=True,
        )
        for tool in world.tools
    ]


component = Component(
    PydanticAgentConfig, lambda config, base: PydanticAgent(config, base), optional_model=True
)
