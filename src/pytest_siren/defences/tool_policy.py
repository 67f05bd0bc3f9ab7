"""The defence ``tool_policy``: rules for calls, and for what may flow into them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pytest_siren.defences.base import Defence, DefendedRun
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.tasks import ToolCall
from pytest_siren.evaluators.base import problem

Action = Literal["allow", "deny", "ask"]
_WORDS = re.compile(r"[^\s\"'<>()\[\]{},;]+")


class RuleConfig(BaseModel):
    """What happens to the calls that a rule fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tool: str = Field(min_length=1, description="Name of the tool; `*` and `?` are wildcards")
    arguments: dict[str, str] = Field(
        default_factory=dict,
        description="Argument to a regular expression, which its whole text must match",
    )
    action: Action = Field(description="`allow`, `deny` or `ask`")

    @field_validator("arguments")
    @classmethod
    def _compiles(cls, value: dict[str, str]) -> dict[str, str]:
        for name, pattern in value.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise problem(f"{name}: {pattern!r} is no regular expression: {error}") from None
        return value

    def fits(self, call: ToolCall) -> bool:
        """Tell whether the rule is about ``call``."""
        return fnmatchcase(call.name, self.tool) and all(
            name in call.args and re.fullmatch(pattern, str(call.args[name]), re.DOTALL)
            for name, pattern in self.arguments.items()
        )


class TaintConfig(BaseModel):
    """Which calls must not contain what untrusted tools returned."""

    model_config = ConfigDict(extra="forbid", strict=True)

    changes: list[str] = Field(
        min_length=1, description="Tools that change something; `*` and `?` are wildcards"
    )
    trusted: list[str] = Field(
        default_factory=list, description="Tools whose results are trusted; same wildcards"
    )
    shortest: int = Field(
        default=6, ge=1, description="Characters; shorter words are in any text by chance"
    )
    action: Literal["deny", "ask"] = Field(default="deny", description="What happens to the call")


class ToolPolicyConfig(BaseModel):
    """Configuration of the defence ``tool_policy``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rules: list[RuleConfig] = Field(
        default_factory=list, description="The first rule that fits a call decides"
    )
    otherwise: Action = Field(default="allow", description="What happens to all other calls")
    answer: Literal["allow", "deny"] = Field(
        default="deny", description="What the person answers who is asked"
    )
    taint: TaintConfig | None = Field(
        default=None, description="What may flow from results into calls; see below"
    )


class ToolPolicy(Defence):
    """Refuses calls by rules, and calls that would carry out what an untrusted text says."""

    def __init__(self, config: ToolPolicyConfig) -> None:
        self._config = config

    async def call(self, call: ToolCall, run: DefendedRun) -> str | None:
        rules = (rule.action for rule in self._config.rules if rule.fits(call))
        refused = self._refused(next(rules, self._config.otherwise), call, "the rules", run)
        taint = self._config.taint
        if refused is None and taint is not None and (word := _tainted(call, run, taint)):
            source = f"{word!r}, which comes from an untrusted tool,"
            return self._refused(taint.action, call, source, run)
        return refused

    def _refused(self, action: Action, call: ToolCall, why: str, run: DefendedRun) -> str | None:
        if action == "allow":
            return None
        if action == "ask":
            run.alarm(f"the user was asked about the call of {call.name} because of {why}")
            if self._config.answer == "allow":
                return None
            return f"The user did not allow the call of {call.name}."
        run.alarm(f"the call of {call.name} was refused because of {why}")
        return f"The call of {call.name} was refused by a policy."


def _tainted(call: ToolCall, run: DefendedRun, taint: TaintConfig) -> str | None:
    """Return the first word of the arguments that only an untrusted result can have given.

    A word is what stands between spaces, quotes and brackets. One that the user wrote, or that a
    trusted tool returned, is not tainted.
    """
    if not _is_one_of(call.name, taint.changes):
        return None
    trusted, untrusted = [run.task.prompt, run.task.system_prompt or ""], [""]
    for done, outcome in run.read:
        (trusted if _is_one_of(done.name, taint.trusted) else untrusted).append(outcome.text)
    known, suspect = "\n".join(trusted).casefold(), "\n".join(untrusted).casefold()
    for word in _words(call.args.values()):
        folded = word.casefold()
        if len(word) >= taint.shortest and folded in suspect and folded not in known:
            return word
    return None


def _is_one_of(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _words(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping):
            yield from _words(value.values())
        elif isinstance(value, list | tuple):
            yield from _words(value)
        else:
            yield from (word.strip(".:!?") for word in _WORDS.findall(str(value)))


def _build(config: ToolPolicyConfig, base: Path) -> ToolPolicy:
    return ToolPolicy(config)


component = Component(ToolPolicyConfig, _build)
