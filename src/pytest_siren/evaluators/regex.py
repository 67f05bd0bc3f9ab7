"""``regex``: a regular expression finds something in the answer."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.bounds import in_time
from pytest_siren.evaluators.patterns import Flag, compile_pattern, finds
from pytest_siren.evaluators.problems import located
from pytest_siren.evaluators.text import Where, texts


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
