"""How a model is addressed in prose."""

from __future__ import annotations

from pytest_siren.evaluation.models import UNNAMED

_SPOKEN = (
    ("gpt-4", "GPT-4"),
    ("gpt-3.5", "GPT-3.5"),
    ("claude", "Claude"),
    ("command-r-plus", "Command R+"),
    ("command-r", "Command R"),
    ("mixtral", "Mixtral"),
    ("gemini", "AI model developed by Google"),
    ("llama", "AI assistant"),
    ("gpt-", "ChatGPT"),
)
"""Part of a model's name, and the name in prose; the first that fits counts.

The prose of models that AgentDojo's benchmark knows is that of ``agentdojo.models.MODEL_NAMES``.
"""


def spoken_name(model: str) -> str:
    """Return how an attacker would address ``model``, such as ``GPT-4`` for ``openai:gpt-4o``."""
    lowered = model.lower()
    return next((spoken for part, spoken in _SPOKEN if part in lowered), UNNAMED)
