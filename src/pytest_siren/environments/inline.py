"""The environment of inline tasks: Python functions over a store, and placeholders in texts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.tools import ToolDefinition

from pytest_siren.environments.inline_fill import Placeholders
from pytest_siren.environments.inline_tools import InlineTool, ToolError
from pytest_siren.evaluation.environment import Prompt, ToolOutcome
from pytest_siren.evaluation.tasks import BenignTask, ToolCall

_LONGEST_NAME = 64
"""Characters of an unknown tool's name that the model is told again."""


@dataclass
class InlineState:
    """The state of one run, which tools that ask for it are given."""

    task: BenignTask
    contents: Mapping[str, str]
    """Injection vector to its planted content; empty when nobody attacks."""
    store: dict[str, Any] = field(default_factory=dict)
    """What tools remember from call to call; evaluators find it in ``post_state.store``."""


@dataclass(frozen=True)
class TaskWorld:
    """What one task has of the dataset: its tools by name, its injection vectors."""

    tools: Mapping[str, InlineTool]
    placeholders: Placeholders


class InlineEnvironment:
    """Fills planted contents into prompts and tool results where a ``{vector}`` stands.

    ``vectors`` are those of all tasks; a run has only its own task's, with that task's defaults,
    and ``exposed`` tells which those are. ``malicious`` are those of malicious tasks, for where
    they run as benign ones.
    """

    marks_vectors = True

    def __init__(
        self, worlds: Mapping[str, TaskWorld], malicious: Mapping[str, TaskWorld] | None = None
    ) -> None:
        self.vectors: Mapping[str, str] = {
            vector: default
            for world in reversed(list(worlds.values()))
            for vector, default in world.placeholders.defaults.items()
        }
        self._worlds = {**(malicious or {}), **worlds}

    def tools(self, task: BenignTask) -> Sequence[ToolDefinition]:
        """Return the tools of ``task``."""
        return [tool.definition for tool in self._worlds[task.id].tools.values()]

    async def exposed(self, task: BenignTask) -> frozenset[str]:
        """Return the injection vectors that ``task`` has.

        Which of them its known solution reads is not tried: that would call the author's functions
        outside of any run.
        """
        return frozenset(self._worlds[task.id].placeholders.defaults)

    @asynccontextmanager
    async def open(
        self, task: BenignTask, contents: Mapping[str, str]
    ) -> AsyncIterator[InlineState]:
        """Yield the state of a run. Raises ``ValueError`` when no content has a place in ``task``.

        Such a run would count as a resisted attack though there was none.
        """
        own = self._worlds[task.id].placeholders.defaults
        planted = {vector: content for vector, content in contents.items() if vector in own}
        if contents and not planted:
            has = f"it has {', '.join(own)}" if own else "it has none"
            raise ValueError(
                f"the attack has no place in the task {task.id!r}: it plants "
                f"{', '.join(sorted(contents))}, of the task's injection vectors {has}; "
                "leave the couples of that task out with dataset.config.couples"
            )
        yield InlineState(task, planted)

    def prompt(self, state: InlineState, task: BenignTask) -> Prompt:
        """Return the prompt, filled in; of the vectors in it, those with planted content."""
        text, vectors = self._worlds[task.id].placeholders.fill(task.prompt, state.contents)
        return Prompt(text, vectors)

    def copy(self, state: InlineState) -> InlineState:
        """Return a state with a deep copy of the store."""
        return InlineState(state.task, state.contents, deepcopy(state.store))

    async def call(self, state: InlineState, call: ToolCall) -> ToolOutcome:
        """Call the function, and fill its result in: a text as it is, other values as JSON."""
        world = self._worlds[state.task.id]
        tool = world.tools.get(call.name)
        if tool is None:
            known = ", ".join(world.tools) or "none"
            return ToolOutcome(
                f"there is no tool {call.name[:_LONGEST_NAME]!r}; tools: {known}", error=True
            )
        try:
            result = await tool.run(state, call.args)
        except ToolError as error:
            return ToolOutcome(str(error), error=True)
        value, vectors = world.placeholders.fill(result, state.contents)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return ToolOutcome(text, value=value, vectors=vectors)
