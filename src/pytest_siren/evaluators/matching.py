"""How evaluators match texts, and the bounds of what they read."""

from __future__ import annotations

import asyncio
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, TypeAlias

import regex
from pydantic import BeforeValidator, Field
from pydantic_ai.messages import ModelResponse

from pytest_siren.evaluation.responses import words_of
from pytest_siren.evaluation.tasks import Evidence
from pytest_siren.evaluators.base import problem

Where: TypeAlias = Annotated[
    Literal["output", "messages"],
    Field(
        description="output: the text of the last message; messages: the text of every response, "
        "each judged for itself"
    ),
]


def texts(evidence: Evidence, where: Where) -> Sequence[str]:
    """Return the texts to judge: the output alone, or one text per response that has any.

    Text is what the model said, the words of a refusal among it; its thinking and the arguments of
    its calls are not.
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
"""Seconds that an evaluator may hold up other runs; what takes longer begins anew in a thread."""
LONGEST = 5.0
"""Seconds after which it is the run's error."""

_END = ContextVar[float | None]("siren_evaluation_end", default=None)
"""When the evaluation that is under way has to have ended, in ``time.monotonic``."""


class EvaluationTimeoutError(Exception):
    """An evaluator worked too long on what the model wrote: there is no score."""


def in_time(name: str, work: Callable[[], float]) -> float | Awaitable[float]:
    """Return what ``work`` returns, at once or from a thread.

    ``work`` has to ask ``left`` often, and is called a second time when the first was stopped.
    Raises ``EvaluationTimeoutError``, which names the evaluator, after ``LONGEST`` seconds.
    """
    try:
        return _limited(work, AT_ONCE)
    except EvaluationTimeoutError:
        return _in_thread(name, work)


def left() -> float:
    """Return how many seconds the evaluation under way may still take.

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
    """Tell whether ``pattern`` is found in ``text``. Raises ``EvaluationTimeoutError``."""
    try:
        return pattern.search(text, timeout=left(), concurrent=True) is not None
    except TimeoutError:
        raise EvaluationTimeoutError("out of time") from None


def search(pattern: str, text: str) -> bool:
    """Do the same for a pattern that is known to be one, as ``re.search`` does."""
    return finds(_compiled(pattern, ()), text)


@lru_cache(maxsize=1024)
def _compiled(pattern: str, names: tuple[str, ...]) -> Pattern:
    flags = reduce(or_, (regex.RegexFlag[name] for name in names), regex.VERSION0)
    compiled: Pattern = regex.compile(_literal_braces(pattern), flags)
    return compiled


def _literal_braces(pattern: str) -> str:
    """Return ``pattern`` with each brace escaped that ``re`` takes as it is: ``a{e}`` is no error.

    ``regex`` would take it for how many errors a match may have.
    """
    if "{" not in pattern:
        return pattern
    return "".join("\\{" if piece == "{" else piece for piece in _PIECE.findall(pattern))
