"""``recorded``: plants the contents of the runs that ``replay:`` plays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.models import ModelSource, RunContext
from pytest_siren.evaluation.stage import StaticAttack, Target


class RecordedAttackConfig(BaseModel):
    """Configuration of the attack ``recorded``."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(
        default=None, description="Name of the recorded attack; not needed when there is only one"
    )


class Transcript(Protocol):
    """A recorded run."""

    contents: Mapping[str, str]


@runtime_checkable
class Recordings(Protocol):
    """A model that plays recordings, as ``replay:`` does."""

    def attacks(self) -> list[str]:
        """Return the names of the recorded attacks."""
        ...

    def transcript(self, run: RunContext) -> Transcript:
        """Return the recording of ``run``."""
        ...


class RecordedAttack(StaticAttack):
    """Repeats the contents of recorded runs."""

    def __init__(self, config: RecordedAttackConfig) -> None:
        self._name = config.name

    def recording(self, model: ModelSource) -> str:
        """Return the recorded attack's name. Raises ``ValueError`` if it is ambiguous."""
        if not isinstance(model, Recordings):
            raise ValueError(f"the attack recorded needs a replay: model, not {model.id}")
        known = model.attacks()
        if self._name is None and len(known) == 1:
            return known[0]
        if self._name is None or self._name not in known:
            asked = "say which with" if self._name is None else f"none is {self._name!r}; set"
            raise ValueError(
                f"{model.id} holds the attacks {', '.join(known) or '(none)'}; "
                f"{asked} attack.config.name"
            )
        return self._name

    def contents(self, target: Target) -> Mapping[str, str]:
        if not isinstance(target.model, Recordings):
            raise ValueError(
                f"the attack recorded needs --model replay:PATH, not {target.model.id}"
            )
        return target.model.transcript(target.run).contents


def _build(config: RecordedAttackConfig, base: Path) -> RecordedAttack:
    return RecordedAttack(config)


component = Component(RecordedAttackConfig, _build)
