"""What every evaluator's configuration can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pytest_siren.evaluation.tasks import Evaluator


class EvaluatorConfig(BaseModel, ABC):
    """Configuration of one evaluator; subclasses fix ``type`` and add their own keys."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    type: str

    @abstractmethod
    def build(self, base: Path) -> Evaluator:
        """Return the evaluator. ``base`` is the folder that import paths are first looked up in.

        Raises ``ImportPathError`` when the configuration names code that cannot be loaded.
        """
