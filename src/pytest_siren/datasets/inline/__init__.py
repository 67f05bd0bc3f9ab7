"""Tasks written in the eval file, or in a file that it names."""

from __future__ import annotations

from pytest_siren.datasets.inline.build import InlineDataset, build
from pytest_siren.datasets.inline.schema import InlineConfig, InlineError
from pytest_siren.evaluation.components import Component

__all__ = ["InlineConfig", "InlineDataset", "InlineError", "component"]

component = Component(InlineConfig, build)
