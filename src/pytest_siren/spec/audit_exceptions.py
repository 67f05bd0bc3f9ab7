"""Reads the reviewed exceptions of an audit: wrong solutions that evaluators may accept."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_siren.spec.errors import SpecError, problems_of
from pytest_siren.yamlpos.reader import read_yaml


class AuditException(BaseModel):
    """Wrong solutions that evaluators may accept, and why. Names may be globs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(default="*", min_length=1)
    task: str = Field(min_length=1)
    mutant: str = Field(min_length=1)
    """Such as ``change send_money.date #2``, or ``change send_money.date *``."""
    reason: str = Field(min_length=1)

    def covers(self, dataset: str, task: str, mutant: str) -> bool:
        """Whether it is about that mutant."""
        return (
            fnmatchcase(dataset, self.dataset)
            and fnmatchcase(task, self.task)
            and fnmatchcase(mutant, self.mutant)
        )


class ExceptionsFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    exceptions: list[AuditException]


def read_exceptions(path: Path, shown: Path) -> list[AuditException]:
    """Return the exceptions in the YAML file ``path``.

    ``shown`` is the path in messages. Raises ``SpecError`` with every problem, each with its line
    and key; an exception without a reason is one.
    """
    root, problems = read_yaml(path, shown)
    found: list[AuditException] = []
    if root is not None:
        data = root.plain()
        try:
            found = ExceptionsFile.model_validate(data).exceptions
        except ValidationError as error:
            problems += problems_of(error, ExceptionsFile, data, root)
    if problems:
        raise SpecError(problems)
    return found
