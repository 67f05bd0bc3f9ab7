"""Finds the model that a name leads to."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.evaluation.models import ModelSource


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
