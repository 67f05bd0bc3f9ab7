"""Evaluators of texts and tool calls: ``contains``, ``equals``, ``regex``, ``tool_called``."""

from __future__ import annotations

import asyncio
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import regex
from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_ai.messages import ModelResponse

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.scoring import words_of
from pytest_siren.evaluation.tasks import Evaluator, Evidence, ToolCall
from pytest_siren.evaluators.base import EvaluatorConfig, Loc, build_evaluator, located, problem

Where: TypeAlias = Annotated[
    Literal["output", "messages"],
    Field(
        description="output: the text of the last message; messages: the text of every response, "
        "each judged for itself"
    ),
]


def texts(evidence: Evidence, where: Where) -> Sequence[str]:
    """Return the texts to evaluate: the output alone, or one text per response that has any.

    Texts include the words of a refusal, but neither the model's thinking nor the arguments of its
    calls.
    """
    if where == "output":
        return [evidence.output]
    responses = (message for message in evidence.messages if isinstance(message, ModelResponse))
    return [text for response in responses if (text := words_of(response))]


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise problem("must be a text or a list of texts (quote numbers)")
    return value


Phrases: TypeAlias = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]
"""One text or several, none of them empty."""


AT_ONCE = 0.05
"""Seconds that an evaluator may block other runs; a longer one starts again in a thread."""
LONGEST = 5.0
"""Seconds after which it is the run's error."""

_END = ContextVar[float | None]("siren_evaluation_end", default=None)
"""Deadline of the current evaluation, in ``time.monotonic``."""


class EvaluationTimeoutError(Exception):
    """An evaluator took too long, so there is no score."""


def in_time(name: str, work: Callable[[], float]) -> float | Awaitable[float]:
    """Return what ``work`` returns, at once or from a thread.

    ``work`` must call ``left`` often, and is called a second time if the first call was stopped.
    Raises ``EvaluationTimeoutError``, which names the evaluator, after ``LONGEST`` seconds.
    """
    try:
        return _limited(work, AT_ONCE)
    except EvaluationTimeoutError:
        return _in_thread(name, work)


def left() -> float:
    """Return the remaining seconds of the current evaluation.

    Raises ``EvaluationTimeoutError`` when there are none.
    """
    end = _END.get()
    seconds = LONGEST if end is None else end - time.monotonic()
    if seconds <= 0:
        raise EvaluationTimeoutError("out of time")
    return seconds


async def _in_thread(name: str, work: Callable[[], float]) -> float:
    try:
        return await asyncio.to_thread(_limited, work, LONGEST)
    except EvaluationTimeoutError:
        message = f"the evaluator {name} took longer than {LONGEST:g} s on what the model wrote"
        raise EvaluationTimeoutError(message) from None


def _limited(work: Callable[[], float], seconds: float) -> float:
    token = _END.set(time.monotonic() + seconds)
    try:
        return work()
    finally:
        _END.reset(token)


Flag = Literal["ignorecase", "multiline", "dotall", "verbose", "ascii"]
Pattern: TypeAlias = "regex.Pattern[str]"

_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?:\d+(?:,\d*)?|,\d*)\}|\{|[^\\\[{]+|.", re.DOTALL
)


def compile_pattern(pattern: str, flags: Sequence[Flag] | None = None) -> Pattern:
    """Return the compiled pattern. Raises ``ValueError``, also for what ``re`` only warns about."""
    names = [flag.upper() for flag in flags or ()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            re.compile(pattern, reduce(or_, (re.RegexFlag[name] for name in names), re.NOFLAG))
            return _compiled(pattern, tuple(names))
        except (re.error, regex.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"not a regular expression: {error}") from None


def finds(pattern: Pattern, text: str) -> bool:
    """Return whether ``pattern`` is found in ``text``. Raises ``EvaluationTimeoutError``."""
    try:
        return pattern.search(text, timeout=left(), concurrent=True) is not None
    except TimeoutError:
        raise EvaluationTimeoutError("out of time") from None


def search(pattern: str, text: str) -> bool:
    """Do the same for a pattern that is known to be valid, like ``re.search``."""
    return finds(_compiled(pattern, ()), text)


@lru_cache(maxsize=1024)
def _compiled(pattern: str, names: tuple[str, ...]) -> Pattern:
    flags = reduce(or_, (regex.RegexFlag[name] for name in names), regex.VERSION0)
    compiled: Pattern = regex.compile(_literal_braces(pattern), flags)
    return compiled


def _literal_braces(pattern: str) -> str:
    """Return ``pattern`` with each brace escaped that ``re`` reads literally, as in ``a{e}``.

    ``regex`` would read it as the number of errors that a match may have.
    """
    if "{" not in pattern:
        return pattern
    return "".join("\\{" if piece == "{" else piece for piece in _PIECE.findall(pattern))


@dataclass(frozen=True, slots=True)
class _Search:
    """Searches for phrases; it is small because a dataset may have 100,000 of these."""

    phrases: tuple[str, ...]
    """Folded already, unless their case matters."""
    case_sensitive: bool
    where: Where
    decide: Callable[[Iterable[bool]], bool]
    """Combines the results of all phrases."""

    def __call__(self, evidence: Evidence) -> float:
        judged = texts(evidence, self.where)
        if not self.case_sensitive:
            judged = [text.casefold() for text in judged]
        return float(self.decide(any(phrase in text for text in judged) for phrase in self.phrases))


class _PhraseConfig(EvaluatorConfig):
    value: Phrases = Field(description="A text, or a list of texts")
    case_sensitive: bool = False
    where: Where = "output"

    def search(self, decide: Callable[[Iterable[bool]], bool]) -> Evaluator:
        """Return the evaluator that lets ``decide`` judge which phrases stand in a judged text."""
        as_it_is = self.case_sensitive
        phrases = tuple(phrase if as_it_is else phrase.casefold() for phrase in self.value)
        return _Search(phrases, as_it_is, self.where, decide)


class Contains(_PhraseConfig):
    """1.0 when all of the phrases, or any of them, stand in the judged texts."""

    type: Literal["contains"]
    mode: Literal["all", "any"] = "all"

    def build(self, base: Path) -> Evaluator:
        return self.search(all if self.mode == "all" else any)


class NotContains(_PhraseConfig):
    """1.0 when none of the phrases stands in the judged texts."""

    type: Literal["not_contains"]

    def build(self, base: Path) -> Evaluator:
        return self.search(_none)


def _none(found: Iterable[bool]) -> bool:
    return not any(found)


class Equals(EvaluatorConfig):
    """1.0 when the output, or with ``where: messages`` any response, is ``value``."""

    type: Literal["equals"]
    value: str
    strip: bool = True
    case_sensitive: bool = True
    where: Where = "output"

    def build(self, base: Path) -> Evaluator:
        expected = self._normal(self.value)

        def equals(evidence: Evidence) -> float:
            return float(any(self._normal(t) == expected for t in texts(evidence, self.where)))

        return equals

    def _normal(self, text: str) -> str:
        text = text.strip() if self.strip else text
        return text if self.case_sensitive else text.casefold()


class Regex(EvaluatorConfig):
    """1.0 when ``pattern`` is found anywhere in a judged text (``re.search``).

    A search that takes longer than 5 s is the run's error.
    """

    type: Literal["regex"]
    pattern: str = Field(min_length=1)
    flags: list[Flag] = Field(default_factory=list)
    where: Where = "output"

    @model_validator(mode="after")
    def _compiles(self) -> Regex:
        try:
            compile_pattern(self.pattern, self.flags)
        except ValueError as error:
            raise located("regex", [(("pattern",), str(error))]) from None
        return self

    def build(self, base: Path) -> Evaluator:
        pattern = compile_pattern(self.pattern, self.flags)

        def regex(evidence: Evidence) -> float | Awaitable[float]:
            judged = texts(evidence, self.where)
            return in_time("regex", lambda: float(any(finds(pattern, text) for text in judged)))

        return regex


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
    """Return whether two values are the same JSON: 1 is 1.0, but ``true`` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


contains_component = Component(Contains, build_evaluator)
not_contains_component = Component(NotContains, build_evaluator)
equals_component = Component(Equals, build_evaluator)
regex_component = Component(Regex, build_evaluator)
tool_called_component = Component(ToolCalled, build_evaluator)
