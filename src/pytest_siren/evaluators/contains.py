"""``contains`` and ``not_contains``: texts that must, or must not, stand in the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.text import Phrases, Where, texts


class _PhraseConfig(EvaluatorConfig):
    value: Phrases = Field(description="A text, or a list of texts")
    case_sensitive: bool = False
    where: Where = "output"

    def found(self, evidence: Evidence) -> list[bool]:
        """Tell for each phrase whether it stands in any of the judged texts."""
        judged = [self._fold(text) for text in texts(evidence, self.where)]
        return [any(self._fold(phrase) in text for text in judged) for phrase in self.value]

    def _fold(self, text: str) -> str:
        return text if self.case_sensitive else text.casefold()


class Contains(_PhraseConfig):
    """1.0 when all of the phrases, or any of them, stand in the judged texts."""

    type: Literal["contains"]
    mode: Literal["all", "any"] = "all"

    def build(self, base: Path) -> Evaluator:
        decide = all if self.mode == "all" else any

        def contains(evidence: Evidence) -> float:
            return float(decide(self.found(evidence)))

        return contains


class NotContains(_PhraseConfig):
    """1.0 when none of the phrases stands in the judged texts."""

    type: Literal["not_contains"]

    def build(self, base: Path) -> Evaluator:
        def not_contains(evidence: Evidence) -> float:
            return float(not any(self.found(evidence)))

        return not_contains
