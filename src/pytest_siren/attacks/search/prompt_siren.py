"""``mini-goat`` as prompt-siren's attack files configure it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.attacks.search.proposers.mini_goat import MiniGoatConfig
from pytest_siren.attacks.search.search import Budget, ProposerConfig, Search, SearchConfig
from pytest_siren.evaluation.components import Component

_FORMS = MiniGoatConfig()


class MiniGoatAttackConfig(BaseModel):
    """The keys of prompt-siren's attack, with its defaults but for the texts."""

    model_config = ConfigDict(extra="forbid")

    attacker_model: str = Field(default="azure:gpt-4o", min_length=1)
    attacker_model_instructions: str | None = None
    first_user_message_to_attacker: str = _FORMS.first_user_message_to_attacker
    following_user_message_to_attacker: str = _FORMS.following_user_message_to_attacker
    max_turns: int = Field(default=5, ge=1)
    top_p: float = Field(default=0.5, ge=0.0, le=1.0)
    temperature: float = Field(default=1.0, ge=0.0)


def mini_goat(config: MiniGoatAttackConfig, base: Path) -> Search:
    """Return the search: it attacks the vector that is read first."""
    proposer = MiniGoatConfig(
        model=config.attacker_model,
        temperature=config.temperature,
        top_p=config.top_p,
        system_prompt=config.attacker_model_instructions,
        first_user_message_to_attacker=config.first_user_message_to_attacker,
        following_user_message_to_attacker=config.following_user_message_to_attacker,
    )
    return Search(
        SearchConfig(
            proposer=ProposerConfig(type="mini_goat", config=proposer),
            budget=Budget(queries=config.max_turns),
            vectors="one",
        ),
        base,
    )


component = Component(MiniGoatAttackConfig, mini_goat)
