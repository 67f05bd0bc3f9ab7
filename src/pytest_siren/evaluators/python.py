"""``python``: a function of the eval's author judges the run."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pytest_siren.evaluation.isolation import in_thread
from pytest_siren.evaluation.scores import score_of
from pytest_siren.evaluation.tasks import Evaluator, Evidence
from pytest_siren.evaluators.base import EvaluatorConfig
from pytest_siren.evaluators.importing import ImportPath, ImportPathError, load_callable


class PythonEvaluator(EvaluatorConfig):
    """The score that ``path`` returns when called as ``callable(evidence, **config)``.

    It returns a number from 0.0 to 1.0 or a bool, numpy's included, and may be a coroutine
    function. A plain function runs in a thread, so that one that waits does not hold up other runs.
    What it raises, whatever the class of the exception, is the run's error.
    """

    type: Literal["python"]
    path: ImportPath
    config: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments")

    def build(self, base: Path) -> Evaluator:
        judge = load_callable(self.path, base)
        _check_signature(self.path, judge, self.config)

        async def python(evidence: Evidence) -> float:
            if inspect.iscoroutinefunction(judge):
                score = await judge(evidence, **self.config)
            else:
                score = await in_thread(partial(_judge, judge, evidence, self.config))
                score = await score if inspect.isawaitable(score) else score
            return score_of(score, self.path)

        return python


def _judge(judge: Any, evidence: Evidence, config: dict[str, Any]) -> Any:
    try:
        return judge(evidence, **config)
    except StopIteration as error:
        # A coroutine cannot let a StopIteration out.
        raise RuntimeError(f"the evaluator raised StopIteration: {error}") from error


def _check_signature(path: str, judge: Any, config: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(judge)
    except ValueError:
        return  # a callable written in C need not have one
    try:
        signature.bind(None, **config)
    except TypeError as error:
        raise ImportPathError(
            f"{path!r} cannot be called as {path.partition(':')[2]}(evidence, **config): {error}"
        ) from None
