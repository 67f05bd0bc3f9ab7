"""``tool_called``: the model asked for a tool, with given arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from pytest_siren.evaluation.tasks import Evaluator, Evidence, ToolCall
from pytest_siren.evaluators.base import EvaluatorConfig, Loc, located
from pytest_siren.evaluators.matching import compile_pattern, finds, in_time

Matcher: TypeAlias = Callable[[Any], bool]

_MATCHERS = {"equals", "contains", "regex"}


class ToolCalled(EvaluatorConfig):
    """1.0 when a call of ``name`` matches ``arguments``: at least one, or exactly ``times``.

    Arguments that are not named may be anything. A call counts when the model asked for it with
    readable arguments, whether or not the tool then succeeded.
    """

    type: Literal["tool_called"]
    name: str = Field(min_length=1)
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Argument to its value, or to {equals: ...}, {contains: ...}, {regex: ...}",
    )
    times: int | None = Field(default=None, ge=0, description="Exactly so many matching calls")

    @field_validator("arguments")
    @classmethod
    def _matchers(cls, value: dict[str, Any]) -> dict[str, Any]:
        problems: list[tuple[Loc, str]] = []
        for argument, expected in value.items():
            try:
                _matcher(expected)
            except ValueError as error:
                problems.append(((argument,), str(error)))
        if problems:
            raise located("tool_called", problems)
        return value

    def build(self, base: Path) -> Evaluator:
        matchers = {argument: _matcher(expected) for argument, expected in self.arguments.items()}

        def tool_called(evidence: Evidence) -> float | Awaitable[float]:
            def judge() -> float:
                count = sum(_matches(call, self.name, matchers) for call in evidence.calls)
                return float(count > 0 if self.times is None else count == self.times)

            return in_time("tool_called", judge)

        return tool_called


def _matches(call: ToolCall, name: str, matchers: Mapping[str, Matcher]) -> bool:
    return (
        call.name == name
        and call.problem is None
        and all(arg in call.args and match(call.args[arg]) for arg, match in matchers.items())
    )


def _matcher(expected: Any) -> Matcher:
    """Return the test of an argument. Raises ``ValueError`` for a bad pattern or phrase."""
    kind, wanted = "equals", expected
    if isinstance(expected, dict) and len(expected) == 1 and expected.keys() <= _MATCHERS:
        ((kind, wanted),) = expected.items()
    if kind == "equals":
        return lambda value: same_json(value, wanted)
    if not isinstance(wanted, str) or not wanted:
        raise ValueError(f"{kind!r} takes a text that is not empty")
    if kind == "contains":
        return lambda value: _holds(value, wanted)
    pattern = compile_pattern(wanted)
    return lambda value: isinstance(value, str) and finds(pattern, value)


def _holds(value: Any, wanted: str) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, str) and wanted == item for item in value)
    return isinstance(value, str) and wanted in value


def same_json(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: 1 is 1.0, but ``true`` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)
