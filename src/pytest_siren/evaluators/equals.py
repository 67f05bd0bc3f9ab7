"""``equals``: the answer is a given text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.text import Where, texts


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
