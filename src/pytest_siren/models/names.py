"""TEMPORARY stand-in until the real module arrives."""
from __future__ import annotations
from pathlib import Path
from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.evaluation.models import ModelSource
def spoken_name(model: str) -> str:
    return "the AI language model"
def find_model(name: str, registry: Registry, base: Path) -> ModelSource:
    prefix, _, rest = name.partition(":")
    component = registry.find(Kind.MODEL, prefix)
    return component.build(component.config(argument=rest), base)
