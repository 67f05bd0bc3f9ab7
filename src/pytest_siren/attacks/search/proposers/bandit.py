"""``bandit``: chooses among templates by what they have come to (Thompson 1933)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from pytest_siren.attacks.search.proposers.texts import WithTemplates, noised, rendered
from pytest_siren.attacks.search.protocol import Proposal, Scene, Try
from pytest_siren.evaluation.components import Component


class BanditConfig(WithTemplates):
    """Each template is an arm."""

    strength: float = Field(default=0.1, ge=0.0, le=1.0)
    """How much a text is changed when its template is taken again; 0 for not at all."""


class Bandit:
    """Thompson sampling with a uniform prior; the score of a try counts as a share of a success."""

    def __init__(self, config: BanditConfig, base: Path) -> None:
        self.config = config

    async def propose(self, history: Sequence[Try], scene: Scene) -> Proposal:
        random = scene.random(len(history))
        arms = range(len(self.config.templates))
        taken = [[one.score for one in history if one.notes == arm] for arm in arms]
        draws = [random.betavariate(*_posterior(scores)) for scores in taken]
        arm = max(arms, key=draws.__getitem__)
        text = rendered(self.config.templates[arm], scene)
        if taken[arm]:
            text = noised(text, random, self.config.strength)
        return Proposal(text, notes=arm)


def _posterior(scores: Sequence[float]) -> tuple[float, float]:
    won = sum(scores)
    return 1.0 + won, 1.0 + len(scores) - won


component = Component(BanditConfig, Bandit)
