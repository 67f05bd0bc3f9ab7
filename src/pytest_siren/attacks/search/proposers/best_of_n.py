"""``best_of_n``: random changes to one text, over and over (Hughes et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from pytest_siren.attacks.search.proposers.texts import WithTemplates, noised, rendered
from pytest_siren.attacks.search.protocol import Proposal, Scene, Try
from pytest_siren.evaluation.components import Component


class BestOfNConfig(WithTemplates):
    """The templates are tried as they are first, each once, and then changed in turn."""

    strength: float = Field(default=0.4, ge=0.0, le=1.0)
    """How much a text is changed."""


class BestOfN:
    """Samples independently: what earlier tries came to changes nothing."""

    def __init__(self, config: BestOfNConfig, base: Path) -> None:
        self.config = config

    async def propose(self, history: Sequence[Try], scene: Scene) -> Proposal:
        templates, number = self.config.templates, len(history)
        text = rendered(templates[number % len(templates)], scene)
        if number < len(templates):
            return Proposal(text)
        return Proposal(noised(text, scene.random(number), self.config.strength))


component = Component(BestOfNConfig, BestOfN)
