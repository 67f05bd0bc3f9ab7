"""``regex``: a regular expression finds something in the answer."""

from __future__ import annotations

import re
import warnings
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.problems import located
from pytest_siren.evaluators.text import Where, texts

LONGEST = 200_000
"""Characters of a text that are searched: ``re`` cannot be interrupted."""

Flag = Literal["ignorecase", "multiline", "dotall", "verbose", "ascii"]


class Regex(EvaluatorConfig):
    """1.0 when ``pattern`` is found anywhere in a judged text (``re.search``)."""

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

        def regex(evidence: Evidence) -> float:
            return float(any(finds(pattern, text) for text in texts(evidence, self.where)))

        return regex


def compile_pattern(pattern: str, flags: list[Flag] | None = None) -> re.Pattern[str]:
    """Return the compiled pattern. Raises ``ValueError``, also for what ``re`` only warns about."""
    combined = reduce(or_, (re.RegexFlag[flag.upper()] for flag in flags or ()), re.NOFLAG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return re.compile(pattern, combined)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"not a regular expression: {error}") from None


def finds(pattern: re.Pattern[str], text: str) -> bool:
    """Tell whether ``pattern`` is found in the first ``LONGEST`` characters of ``text``."""
    return pattern.search(text[:LONGEST]) is not None
