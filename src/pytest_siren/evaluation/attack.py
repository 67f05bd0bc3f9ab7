"""What an attack is: something that chooses the contents of injection vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pytest_siren.evaluation.models import ModelSource, RunContext
from pytest_siren.evaluation.stage import Stage
from pytest_siren.evaluation.states import End
from pytest_siren.evaluation.tasks import Couple


@dataclass(frozen=True)
class Target:
    """What the attacker knows when the attack begins."""

    run: RunContext
    couple: Couple
    vectors: Mapping[str, str]
    """Injection vector to its harmless default, for the vectors that the benign task will read.

    Where the dataset cannot tell which those are, all vectors.
    """
    all_vectors: Mapping[str, str]
    """The same for every vector of the environment."""
    model: ModelSource
    user_name: str
    """How the attacker would name the agent's user."""


class Attack(Protocol):
    """Drives one attacked run from its beginning to its end."""

    rewinds: bool
    """Whether it goes back to earlier states."""

    def recording(self, model: ModelSource) -> str | None:
        """Name under which its transcripts are filed; ``None`` for the attack's own name."""
        ...

    async def run(self, stage: Stage, target: Target) -> End:
        """Attack, and return the state in which the agent ended."""
        ...


@runtime_checkable
class AsksModels(Protocol):
    """An attack that asks models of its own, which ``Stage.open_model`` opens."""

    models: Iterable[str]
    """Their names, as agents name theirs. They are made, and their keys and prices checked, before
    anything runs; they keep to the rate limits of the session, and are closed when it ends."""


class StaticAttack(ABC):
    """An attack that decides all contents before the agent begins."""

    rewinds = False

    @abstractmethod
    def contents(self, target: Target) -> Mapping[str, str]:
        """Return injection vector to content, for as many vectors as are to be attacked."""

    def recording(self, model: ModelSource) -> str | None:
        return None

    async def run(self, stage: Stage, target: Target) -> End:
        return await stage.finish(await stage.begin(self.contents(target)))
