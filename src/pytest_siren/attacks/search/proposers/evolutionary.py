"""``evolutionary``: changes and crosses the best texts so far (Liu et al. 2023, "AutoDAN")."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from pydantic import Field

from pytest_siren.attacks.search.proposers.texts import (
    WithTemplates,
    noised,
    pieces,
    rendered,
)
from pytest_siren.attacks.search.protocol import Proposal, Scene, Try
from pytest_siren.evaluation.components import Component


class EvolutionaryConfig(WithTemplates):
    """The templates are the first generation."""

    population: int = Field(default=8, ge=2)
    """How many of the best texts have descendants."""
    crossover: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the descendants that have two parents."""
    strength: float = Field(default=0.1, ge=0.0, le=1.0)
    """How much letters are changed, in the third of the descendants where they are."""


class Evolutionary:
    """A steady-state genetic algorithm on the sentences of texts, with tournaments of two."""

    def __init__(self, config: EvolutionaryConfig, base: Path) -> None:
        self.config = config

    async def propose(self, history: Sequence[Try], scene: Scene) -> Proposal:
        templates, number = self.config.templates, len(history)
        if number < len(templates):
            return Proposal(rendered(templates[number], scene))
        random = scene.random(number)
        # The later of equals first: it is farther from what was tried before.
        ranked = sorted(history, key=lambda one: (-one.score, -one.number))
        alive = ranked[: self.config.population]
        parent = _winner(alive, random)
        text = parent.text
        if random.random() < self.config.crossover:
            text = _crossed(text, _winner(alive, random).text, random)
        text = self._mutated(text, scene, random)
        return Proposal(text, notes=parent.number)

    def _mutated(self, text: str, scene: Scene, random: Random) -> str:
        match random.randrange(3):
            case 0:
                found = pieces(text)
                random.shuffle(found)
                text = " ".join(piece.strip() for piece in found)
            case 1:
                other = pieces(rendered(random.choice(self.config.templates), scene))
                found = pieces(text)
                found.insert(random.randint(0, len(found)), random.choice(other))
                text = "".join(found)
            case _:
                return noised(text, random, self.config.strength)
        return text if scene.goal in text else f"{text} {scene.goal}"


def _winner(alive: Sequence[Try], random: Random) -> Try:
    first, second = random.choice(alive), random.choice(alive)
    return first if first.score >= second.score else second


def _crossed(one: str, other: str, random: Random) -> str:
    """Return the beginning of ``one`` and the end of ``other``, cut between sentences."""
    left, right = pieces(one), pieces(other)
    return "".join(left[: random.randint(0, len(left))] + right[random.randint(0, len(right)) :])


component = Component(EvolutionaryConfig, Evolutionary)
