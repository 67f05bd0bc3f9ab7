"""AgentDojo's environments: its suites' data, tools and injection vectors."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import yaml
from agentdojo.agent_pipeline.tool_execution import is_string_list
from agentdojo.functions_runtime import FunctionsRuntime, TaskEnvironment
from agentdojo.task_suite.task_suite import TaskSuite, read_suite_file
from pydantic import BaseModel
from pydantic_ai.tools import ToolDefinition

from pytest_siren.environments.agentdojo.data import EnvironmentLoader, SuiteData
from pytest_siren.environments.agentdojo.text import ResultTexts
from pytest_siren.evaluation.tasks import BenignTask, Prompt, ToolCall, ToolOutcome

_TEXTS_KEPT = 2048

_LAYOUT = re.compile(r"\\[nrt]|[\s\"'\\]+")
"""Characters that quoting, escaping, folding or wrapping may change."""


@dataclass
class AgentDojoState:
    """The state of one run."""

    env: TaskEnvironment
    planted: Mapping[str, str]
    """Injection vector to its planted content, without layout."""
    task_id: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)
    """The contents that it was opened with."""
    untouched: bool = False
    """Whether no tool has been called on it."""


class AgentDojoEnvironment:
    """The environment of one suite in one version of the benchmark.

    Contents are planted as AgentDojo plants them, see ``SuiteData``.
    """

    marks_vectors = True

    def __init__(self, suite: TaskSuite[Any]) -> None:
        self.vectors: Mapping[str, str] = suite.get_injection_vector_defaults()
        self._suite = suite
        self._user_tasks = suite.user_tasks
        self._runtime = FunctionsRuntime(suite.tools)
        text = read_suite_file(suite.name, "environment.yaml", suite.data_path)
        data = SuiteData(text, self.vectors)
        self._loader = EnvironmentLoader(suite.environment_type, data, self.vectors)
        self._texts = ResultTexts()
        self._exposed: dict[str, frozenset[str]] = {}
        # Texts of the suite's data are the same objects in every run.
        self._plain = lru_cache(_TEXTS_KEPT)(_without_layout)

    def tools(self, task: BenignTask) -> Sequence[ToolDefinition]:
        """Return the suite's tools, which all its tasks have."""
        return self._tools

    @cached_property
    def _tools(self) -> Sequence[ToolDefinition]:
        # With the JSON schemas that AgentDojo gives to models.
        return [
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=tool.parameters.model_json_schema(),
            )
            for tool in self._suite.tools
        ]

    @asynccontextmanager
    async def open(
        self, task: BenignTask, contents: Mapping[str, str]
    ) -> AsyncIterator[AgentDojoState]:
        """Yield a copy of the plugged-in environment, initialised for ``task``."""
        yield self._made(task.id, contents)

    def _made(self, task_id: str, contents: Mapping[str, str]) -> AgentDojoState:
        env = self._loader.load(contents)
        planted = {vector: _without_layout(content) for vector, content in contents.items()}
        user_task = self._user_tasks.get(task_id)
        # An injection task that runs as a benign one has no preparation.
        ready = env if user_task is None else user_task.init_environment(env)
        again = user_task is None or _prepares_the_same(user_task)
        return AgentDojoState(ready, planted, task_id, dict(contents), untouched=again)

    def pristine(self) -> TaskEnvironment:
        """Return a new environment without planted content."""
        return self._loader.load({})

    def prompt(self, state: AgentDojoState, task: BenignTask) -> Prompt:
        """Return the user task's prompt; AgentDojo plants nothing in it."""
        return Prompt(task.prompt)

    def copy(self, state: AgentDojoState) -> AgentDojoState:
        """Return an independent copy."""
        if state.untouched:
            # This copy takes a sixth of the time of pydantic's.
            return self._made(state.task_id, state.contents)
        return replace(state, env=state.env.model_copy(deep=True))

    def same(self, one: AgentDojoState, other: AgentDojoState) -> bool:
        """Return whether both environments hold the same."""
        return bool(one.env == other.env)

    async def call(self, state: AgentDojoState, call: ToolCall) -> ToolOutcome:
        """Execute ``call`` as AgentDojo's ``ToolsExecutor`` does."""
        state.untouched = False
        if not call.name:
            return ToolOutcome(
                "Empty function name provided. Provide a valid function name.", error=True
            )
        if call.name not in self._runtime.functions:
            return ToolOutcome(f"Invalid tool {call.name} provided.", error=True)
        value, error = self._runtime.run_function(state.env, call.name, executed_args(call))
        if error is not None:
            return ToolOutcome(error, error=True, vectors=self._shown(error, state.planted))
        try:
            text = self._texts.text(value)
        except (TypeError, yaml.YAMLError) as unprintable:
            error = f"{type(unprintable).__name__}: {unprintable}"
            return ToolOutcome(error, error=True, vectors=self._shown(error, state.planted))
        return ToolOutcome(text, value=value, vectors=self._shown(value, state.planted))

    async def exposed(self, task: BenignTask) -> frozenset[str]:
        """Return the vectors that ``task``'s ground truth reads; all of them if it reads none.

        AgentDojo's attacks plant into exactly these. Planting everywhere can make a goal
        unreachable: an e-mail that carries the injection also matches the search of an evaluator.
        """
        if task.id not in self._exposed:
            canaries = {vector: f"canary{index}end" for index, vector in enumerate(self.vectors)}
            shown: frozenset[str] = frozenset()
            async with self.open(task, canaries) as state:
                calls = task.ground_truth.calls(state) if task.ground_truth else ()
                for call in calls:
                    args = executed_args(call)
                    value, error = self._runtime.run_function(state.env, call.name, args)
                    shown |= self._shown(error or value, state.planted)
            self._exposed[task.id] = shown or frozenset(self.vectors)
        return self._exposed[task.id]

    def _shown(self, value: Any, planted: Mapping[str, str]) -> frozenset[str]:
        """Return the vectors whose planted content ``value`` contains."""
        wanted = {vector: text for vector, text in planted.items() if text}
        shortest = min(map(len, wanted.values()), default=0)
        texts = [self._plain(text) for text in _texts(value) if wanted and len(text) >= shortest]
        return frozenset(
            vector for vector, text in wanted.items() if any(text in seen for seen in texts)
        )


def _prepares_the_same(user_task: Any) -> bool:
    """Whether a user task is one of AgentDojo's own, whose preparation is deterministic."""
    return str(type(user_task).init_environment.__module__).startswith("agentdojo.")


def executed_args(call: ToolCall) -> dict[str, Any]:
    """Return the arguments as AgentDojo executes and evaluates them: texts of lists as lists."""
    return {name: _list_of(value) for name, value in call.args.items()}


def _list_of(value: Any) -> Any:
    try:
        return literal_eval(value) if isinstance(value, str) and is_string_list(value) else value
    except (MemoryError, RecursionError, TypeError):
        # A model may write thousands of brackets, which remain a text.
        return value


def _without_layout(text: str) -> str:
    return _LAYOUT.sub("", text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        held = vars(value)
        for name in type(value).model_fields:
            if name in held:
                yield from _texts(held[name])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)
