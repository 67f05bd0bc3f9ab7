"""Evaluators of the answer's text: ``contains``, ``equals``, ``regex``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators.base import EvaluatorConfig, located
from pytest_siren.evaluators.matching import (
    Flag,
    Phrases,
    Where,
    compile_pattern,
    finds,
    in_time,
    texts,
)


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks for phrases, and holds no more than it needs: a dataset may have 100,000 of these."""

    phrases: tuple[str, ...]
    """Folded already, unless their case matters."""
    case_sensitive: bool
    where: Where
    decide: Callable[[Iterable[bool]], bool]
    """Makes one of what was found of each phrase."""

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
