"""Tasks, couples and what an evaluator may look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic_ai.messages import ModelMessage


@dataclass(frozen=True)
class ToolCall:
    """One call that a model asked for, with its arguments decoded."""

    name: str
    args: Mapping[str, Any]
    id: str | None = None
    problem: str | None = None
    """Why the arguments could not be decoded; ``args`` is then empty, the call not executed."""


@dataclass(frozen=True)
class Evidence:
    """All that an evaluator may judge a run by."""

    messages: Sequence[ModelMessage]
    output: str
    """Text of the model's last message; empty when it had none."""
    calls: Sequence[ToolCall]
    """Every call the model asked for, in order, executed or not."""
    pre_state: Any
    """The environment's state before the agent began; ``None`` where states cannot be copied."""
    post_state: Any
    """The environment's state after the agent ended."""


Evaluator: TypeAlias = Callable[[Evidence], float | Awaitable[float]]
"""Judges one run: a score from 0.0 to 1.0, where 1.0 means that the task's goal was reached."""


@dataclass(frozen=True)
class GroundTruth:
    """A known solution of a task: the calls that reach its goal, and the closing words."""

    calls: Callable[[Any], Sequence[ToolCall]]
    """Maps the environment's state before the run to the calls."""
    output: str = ""


@dataclass(frozen=True, slots=True)
class BenignTask:
    """What the user of the agent asked for; its evaluators measure utility."""

    id: str
    prompt: str
    evaluators: Mapping[str, Evaluator]
    ground_truth: GroundTruth | None = None
    system_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class MaliciousTask:
    """What the attacker wants; its evaluators measure the attacker's success."""

    id: str
    goal: str
    evaluators: Mapping[str, Evaluator]
    ground_truth: GroundTruth | None = None
    prompt: str | None = None
    """What the user asks for where it runs as a benign task; ``None`` stands for the goal."""

    def as_benign(self, system_prompt: str | None) -> BenignTask:
        """Return the task as if the user of the agent had asked for it.

        Its evaluators measure utility then: whether the agent can do what the attacker wants.
        """
        prompt = self.prompt or self.goal
        return BenignTask(self.id, prompt, self.evaluators, self.ground_truth, system_prompt)


@dataclass(frozen=True, slots=True)
class Couple:
    """One benign and one malicious task, run together."""

    benign: BenignTask
    malicious: MaliciousTask

    @property
    def id(self) -> str:
        return f"{self.benign.id}:{self.malicious.id}"


@dataclass(frozen=True)
class Scores:
    """The outcome of a task's evaluators."""

    by_evaluator: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over the evaluators, 0..1; 0.0 for a task that has none."""
        values = self.by_evaluator.values()
        return sum(values) / len(values) if values else 0.0
