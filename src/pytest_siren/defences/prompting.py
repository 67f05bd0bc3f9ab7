"""Defences that only tell the model more: ``system_prompt`` and ``repeat_user_prompt``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai.messages import ModelRequest, UserPromptPart

from pytest_siren.defences.base import Defence
from pytest_siren.evaluation.components import Component, NoConfig
from pytest_siren.evaluation.tasks import BenignTask


class SystemPromptConfig(BaseModel):
    """Configuration of the defence ``system_prompt``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, description="What is added")
    position: Literal["after", "before"] = Field(
        default="after", description="After or before the system prompt of the task or agent"
    )


class SystemPrompt(Defence):
    """Adds a text of the user's own to the system prompt."""

    def __init__(self, config: SystemPromptConfig) -> None:
        self._config = config

    def system_prompt(self, text: str | None) -> str:
        parts = [part for part in (text, self._config.text) if part]
        return "\n\n".join(parts if self._config.position == "after" else reversed(parts))


class RepeatUserPrompt(Defence):
    """Repeats what the user asked for after all results of tools.

    It is AgentDojo's ``repeat_user_prompt`` (Debenedetti et al. 2024,
    https://arxiv.org/abs/2406.13352).
    """

    def request(self, request: ModelRequest, task: BenignTask) -> ModelRequest:
        return replace(request, parts=[*request.parts, UserPromptPart(task.prompt)])


def _system_prompt(config: SystemPromptConfig, base: Path) -> SystemPrompt:
    return SystemPrompt(config)


def _repeat_user_prompt(config: NoConfig, base: Path) -> RepeatUserPrompt:
    return RepeatUserPrompt()


system_prompt = Component(SystemPromptConfig, _system_prompt)
repeat_user_prompt = Component(NoConfig, _repeat_user_prompt)
