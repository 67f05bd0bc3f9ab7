"""Names of models: where a name leads, and how a model is addressed in prose."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.evaluation.models import UNNAMED, ModelSource

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


def find_model(name: str, registry: Registry, base: Path) -> ModelSource:
    """Return the source of the model ``name``.

    What stands before the first colon decides: a registered or installed model component, or else a
    provider of pydantic-ai. ``base`` is where relative paths in the name start. Raises
    ``ValueError``, ``LookupError`` or ``ImportError``, each with what to do.
    """
    prefix, _, argument = name.partition(":")
    if not prefix.strip():
        raise ValueError(f"model {name!r} has no name; give one such as openai:gpt-5")
    components = registry.names(Kind.MODEL)
    if prefix not in components:
        from pytest_siren.models.api import api_model

        return api_model(name, components)
    if not argument.strip():
        raise ValueError(f"model {name!r} lacks a name after the colon: {prefix}:NAME")
    component = registry.find(Kind.MODEL, prefix)
    try:
        config = component.config.model_validate({"argument": argument})
    except ValidationError as error:
        problems = "; ".join(problem["msg"] for problem in error.errors())
        raise ValueError(f"model {name!r}: {problems.removeprefix('Value error, ')}") from None
    source: ModelSource = component.build(config, base)
    return source
