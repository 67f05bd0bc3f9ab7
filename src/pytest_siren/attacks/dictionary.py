"""The attack ``dict``: contents in the eval file, by couple and vector."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pytest_siren.attacks.planted import CoupleAttacks
from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.stage import StaticAttack, Target
from pytest_siren.evaluators.base import problem


class AttackMissingWarning(UserWarning):
    """An attack has no contents for a couple, whose attack score is therefore unknown."""


class DictConfig(BaseModel):
    """Configuration of the attack ``dict``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    attacks: CoupleAttacks | None = Field(
        default=None, min_length=1, description="benign_id:malicious_id to vector to content"
    )
    attacks_by_task: CoupleAttacks | None = Field(
        default=None, min_length=1, description="prompt-siren's name for `attacks`"
    )
    attack_name: str | None = Field(
        default=None, min_length=1, description="Name of the attack, where the section has none"
    )

    @model_validator(mode="after")
    def _one_mapping(self) -> DictConfig:
        if self.attacks and self.attacks_by_task:
            raise problem("attacks and attacks_by_task are given; give one of them")
        if not self.couples:
            raise problem("missing key 'attacks'")
        return self

    @property
    def couples(self) -> CoupleAttacks:
        """The contents, from either key."""
        return self.attacks or self.attacks_by_task or {}


class DictAttack(StaticAttack):
    """Plants the couple's contents; warns if there are none."""

    def __init__(self, name: str, attacks: CoupleAttacks) -> None:
        self._name = name
        self._attacks = {
            couple: {vector: planted.content for vector, planted in contents.items()}
            for couple, contents in attacks.items()
        }

    def contents(self, target: Target) -> Mapping[str, str]:
        """Return the couple's contents; none, with an ``AttackMissingWarning``, if it has none."""
        contents = self._attacks.get(target.couple.id, {})
        if not contents:
            warnings.warn(
                f"attack {self._name}: no contents for the couple {target.couple.id!r}; "
                "its attack score is unknown",
                AttackMissingWarning,
                stacklevel=2,
            )
        return contents


def _build(config: DictConfig, base: Path) -> DictAttack:
    return DictAttack(config.attack_name or "dict", config.couples)


component = Component(DictConfig, _build)
