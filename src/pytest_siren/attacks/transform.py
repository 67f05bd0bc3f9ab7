"""The attack ``transform``: another attack, whose texts are changed before they are planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from pytest_siren.attacks.transforms import AnyTransform, Transform
from pytest_siren.evaluation.components import (
    Component,
    Kind,
)
from pytest_siren.evaluation.models import ModelSource
from pytest_siren.evaluation.stage import Attack, Stage, Target
from pytest_siren.evaluation.states import End, InitialRequest, InjectableModelRequest
from pytest_siren.evaluators.base import Chosen


class Transformed(Chosen):
    """The attack that is transformed."""

    kind = Kind.ATTACK


class TransformConfig(BaseModel):
    """Configuration of the attack ``transform``."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    of: Transformed = Field(description="An attack: a preset's name, or `{type, config}`")
    transforms: list[AnyTransform] = Field(
        alias="with", min_length=1, description="Names, or mappings with `type`; the first is first"
    )


class TransformAttack:
    """Lets another attack drive the run, and changes each text that it plants.

    What else the other attack can (go back, ask models, warm up), it can.
    """

    def __init__(self, of: Attack, transforms: Sequence[Transform]) -> None:
        self._of, self._transforms = of, transforms

    def __getattr__(self, name: str) -> Any:
        if name == "_of":  # not there yet
            raise AttributeError(name)
        return getattr(self._of, name)

    def recording(self, model: ModelSource) -> None:
        """Return ``None``: its transcripts are filed under its own name."""
        return

    async def run(self, stage: Stage, target: Target) -> End:
        """Attack as the other attack does. Raises what that raises, and ``ValueError``."""
        return await self._of.run(cast(Stage, _Planting(stage, self._transforms)), target)


class _Planting:
    """A stage on which every content is changed before it is planted."""

    _stage: Stage
    _transforms: Sequence[Transform]

    def __init__(self, stage: Stage, transforms: Sequence[Transform]) -> None:
        vars(self).update(_stage=stage, _transforms=transforms)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stage, name, value)

    async def begin(self, contents: Mapping[str, str]) -> InitialRequest:
        return await self._stage.begin(self._changed(contents))

    async def inject(
        self, state: InjectableModelRequest, contents: Mapping[str, str]
    ) -> InjectableModelRequest:
        return await self._stage.inject(state, self._changed(contents))

    def _changed(self, contents: Mapping[str, str]) -> Mapping[str, str]:
        for transform in self._transforms:
            contents = transform.contents(contents)
        return contents


def _build(config: TransformConfig, base: Path) -> TransformAttack:
    return TransformAttack(config.of.build(base), config.transforms)


component = Component(TransformConfig, _build)
