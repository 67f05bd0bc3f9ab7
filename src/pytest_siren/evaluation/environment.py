"""The world an agent acts in, parts of which an attacker can write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic_ai.tools import ToolDefinition

from pytest_siren.evaluation.tasks import BenignTask, ToolCall


@dataclass(frozen=True)
class ToolOutcome:
    """What a tool call came to: the text that the model reads, of a result or of an error."""

    text: str
    error: bool = False
    value: Any = None
    """The tool's own return value, for environments and agents that serialise it differently."""
    vectors: frozenset[str] = field(default_factory=frozenset)
    """Injection vectors whose planted content this outcome shows."""


@dataclass(frozen=True)
class Prompt:
    """The user's request as the model reads it."""

    text: str
    vectors: frozenset[str] = field(default_factory=frozenset)
    """Injection vectors that stand in the request itself."""


@runtime_checkable
class Environment(Protocol):
    """Tools over a state, and the injection vectors in that state.

    A state belongs to one run. ``open`` makes it with the contents already planted, so tools and
    evaluators meet the injected text exactly where the dataset puts it.
    """

    vectors: Mapping[str, str]
    """Injection vector to the content that stands there when nobody attacks."""

    def tools(self, task: BenignTask) -> Sequence[ToolDefinition]:
        """Return the tools that the agent is offered for ``task``."""
        ...

    def open(
        self, task: BenignTask, contents: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Any]:
        """Yield a fresh state for ``task`` with ``contents`` planted; free it on exit."""
        ...

    def prompt(self, state: Any, task: BenignTask) -> Prompt:
        """Return the request of ``task`` with the planted contents filled in."""
        ...

    async def call(self, state: Any, call: ToolCall) -> ToolOutcome:
        """Execute ``call`` on ``state``. A tool that raises is an outcome, not an exception."""
        ...


@runtime_checkable
class CopyableEnvironment(Environment, Protocol):
    """An environment whose states can be copied.

    Where states cannot be copied, going back means opening a new one and replaying the calls.
    """

    def copy(self, state: Any) -> Any:
        """Return an independent deep copy of ``state``."""
        ...


@runtime_checkable
class SelectiveEnvironment(Environment, Protocol):
    """An environment that knows which vectors a task is bound to read."""

    async def exposed(self, task: BenignTask) -> frozenset[str]:
        """Return the vectors that the known solution of ``task`` reads; all if that is unknown."""
        ...
