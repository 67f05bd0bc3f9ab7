"""AgentDojo's environments: its suites' data, tools and injection vectors."""

from __future__ import annotations

import pickle
import re
from ast import literal_eval
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from agentdojo.agent_pipeline.tool_execution import is_string_list, tool_result_to_str
from agentdojo.functions_runtime import FunctionsRuntime, TaskEnvironment
from agentdojo.task_suite.task_suite import TaskSuite, read_suite_file
from pydantic import BaseModel
from pydantic_ai.tools import ToolDefinition

from pytest_siren.environments.agentdojo_data import SuiteData
from pytest_siren.evaluation.environment import Prompt, ToolOutcome
from pytest_siren.evaluation.tasks import BenignTask, ToolCall

_PLUGGED_KEPT = 512
"""Plugged-in environments kept per suite, of at most 50 kB each.

A fixed attack makes one per goal and set of vectors that tasks read: fewer than 300 in any suite.
"""

_LAYOUT = re.compile(r"\\[nrt]|[\s\"'\\]+")
"""What differs between a text and the same text quoted, escaped, folded or wrapped."""


@dataclass
class AgentDojoState:
    """The state of one run."""

    env: TaskEnvironment
    planted: Mapping[str, str]
    """Injection vector to its planted content, without layout."""


class AgentDojoEnvironment:
    """The environment of one suite in one version of the benchmark.

    Contents are planted as AgentDojo plants them, see ``SuiteData``.
    """

    def __init__(self, suite: TaskSuite[Any]) -> None:
        self.vectors: Mapping[str, str] = suite.get_injection_vector_defaults()
        self._suite = suite
        self._user_tasks = suite.user_tasks
        self._runtime = FunctionsRuntime(suite.tools)
        self._data = SuiteData(
            read_suite_file(suite.name, "environment.yaml", suite.data_path), self.vectors
        )
        self._plugged: OrderedDict[tuple[tuple[str, str], ...], bytes] = OrderedDict()
        self._exposed: dict[str, frozenset[str]] = {}

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
        env = self._plug(contents)
        planted = {vector: _without_layout(content) for vector, content in contents.items()}
        yield AgentDojoState(self._user_tasks[task.id].init_environment(env), planted)

    def pristine(self) -> TaskEnvironment:
        """Return a fresh environment in which nobody planted anything."""
        return self._plug({})

    def prompt(self, state: AgentDojoState, task: BenignTask) -> Prompt:
        """Return the user task's prompt; AgentDojo plants nothing in it."""
        return Prompt(task.prompt)

    def copy(self, state: AgentDojoState) -> AgentDojoState:
        """Return an independent copy."""
        return AgentDojoState(state.env.model_copy(deep=True), state.planted)

    async def call(self, state: AgentDojoState, call: ToolCall) -> ToolOutcome:
        """Execute ``call`` as AgentDojo's ``ToolsExecutor`` does."""
        if not call.name:
            return ToolOutcome(
                "Empty function name provided. Provide a valid function name.", error=True
            )
        if call.name not in self._runtime.functions:
            return ToolOutcome(f"Invalid tool {call.name} provided.", error=True)
        args = executed_args(call)
        value, error = self._runtime.run_function(state.env, call.name, args)
        if error is not None:
            return ToolOutcome(error, error=True, vectors=_shown(error, state.planted))
        try:
            text = tool_result_to_str(value)
        except (TypeError, yaml.YAMLError) as unprintable:
            return ToolOutcome(f"{type(unprintable).__name__}: {unprintable}", error=True)
        return ToolOutcome(text, value=value, vectors=_shown(value, state.planted))

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
                    shown |= (await self.call(state, call)).vectors
            self._exposed[task.id] = shown or frozenset(self.vectors)
        return self._exposed[task.id]

    def _plug(self, contents: Mapping[str, str]) -> TaskEnvironment:
        key = tuple(sorted(contents.items()))
        if key in self._plugged:
            self._plugged.move_to_end(key)
        else:
            # Unpickling makes a copy several times faster than deep-copying does.
            self._plugged[key] = pickle.dumps(self._load(contents), pickle.HIGHEST_PROTOCOL)
            if len(self._plugged) > _PLUGGED_KEPT:
                self._plugged.popitem(last=False)
        environment: TaskEnvironment = pickle.loads(self._plugged[key])
        return environment

    def _load(self, contents: Mapping[str, str]) -> TaskEnvironment:
        environment: TaskEnvironment = self._suite.environment_type.model_validate(
            self._data.filled({**self.vectors, **contents}, exact=contents.keys())
        )
        return environment


def executed_args(call: ToolCall) -> dict[str, Any]:
    """Return the arguments as AgentDojo executes and judges them: texts of lists become lists."""
    return {name: _list_of(value) for name, value in call.args.items()}


def _list_of(value: Any) -> Any:
    try:
        return literal_eval(value) if isinstance(value, str) and is_string_list(value) else value
    except (MemoryError, RecursionError, TypeError):
        # A model may write thousands of brackets; that is a text then.
        return value


def share_equal_items(before: Any, after: Any) -> None:
    """Let ``before`` hold the very objects of ``after`` wherever an item of both is equal.

    AgentDojo's evaluators compare whole environments with deepdiff, which passes over what is
    identical at once but takes some 50 ms to find a thousand equal items equal. Containers stay
    apart, so an evaluator that adds or removes items changes one side only.
    """
    if isinstance(before, BaseModel) and type(before) is type(after):
        for name in type(before).model_fields:
            share_equal_items(getattr(before, name), getattr(after, name))
    elif isinstance(before, dict) and isinstance(after, dict):
        _share(before, after, before.keys() & after.keys())
    elif isinstance(before, list) and isinstance(after, list):
        _share(before, after, range(min(len(before), len(after))))


def _share(before: Any, after: Any, keys: Iterable[Any]) -> None:
    for key in keys:
        if isinstance(before[key], BaseModel) and before[key] == after[key]:
            before[key] = after[key]
        else:
            share_equal_items(before[key], after[key])


def _without_layout(text: str) -> str:
    return _LAYOUT.sub("", text)


def _shown(value: Any, planted: Mapping[str, str]) -> frozenset[str]:
    """Return the vectors whose planted content stands in ``value``."""
    wanted = {vector: text for vector, text in planted.items() if text}
    if not wanted:
        return frozenset()
    texts = [_without_layout(text) for text in _texts(value)]
    return frozenset(
        vector for vector, text in wanted.items() if any(text in seen for seen in texts)
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)
