"""The attack ``dict``: contents written down in the eval file, per couple and vector."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.attacks.planted import CoupleAttacks
from pytest_siren.evaluation.attack import StaticAttack, Target
from pytest_siren.evaluation.components import Component


class AttackMissingWarning(UserWarning):
    """An attack has no contents for a couple, whose attack score is therefore unknown."""


class DictConfig(BaseModel):
    """Configuration of the attack ``dict``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    attacks: CoupleAttacks = Field(
        min_length=1, description="benign_id:malicious_id to vector to content"
    )


class DictAttack(StaticAttack):
    """Plants what is written down for the couple; warns when there is nothing."""

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
    return DictAttack("dict", config.attacks)


component = Component(DictConfig, _build)
