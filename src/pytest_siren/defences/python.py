"""The defence ``python``: a class of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.defences.base import Defence
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.isolation import UserInterrupt, one_line
from pytest_siren.evaluators.python import ImportPath, ImportPathError, load_callable, local_file


class PythonDefenceConfig(BaseModel):
    """Configuration of the defence ``python``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: ImportPath = Field(
        description="module:name of a subclass of Defence, or of a function that returns one"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the target"
    )


def _build(config: PythonDefenceConfig, base: Path) -> Defence:
    """Return what the target returns; a change of its file changes the identity of the job."""
    target = load_callable(config.target, base)
    try:
        built = target(**config.arguments)
    except UserInterrupt:
        raise
    except BaseException as error:
        raise ImportPathError(f"{config.target!r}: {one_line(error)}") from error
    if not isinstance(built, Defence):
        raise ImportPathError(
            f"{config.target!r} returned {type(built).__name__}, which is no Defence"
        )
    if (file := local_file(config.target, base)) is not None:
        built.sources = (*built.sources, file)
    return built


component = Component(PythonDefenceConfig, _build)
