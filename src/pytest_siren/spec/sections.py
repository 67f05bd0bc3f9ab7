"""Presets of datasets and sandbox managers, in ``dataset/NAME.yaml`` beside the eval file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.spec.interpolation import interpolated
from pytest_siren.spec.schema import ComponentSection
from pytest_siren.spec.translate import problems_of
from pytest_siren.spec.wording import listed, suggestion
from pytest_siren.yamlpos.nodes import Node, node_of, with_value
from pytest_siren.yamlpos.problems import Problem
from pytest_siren.yamlpos.reader import read_yaml
from pytest_siren.yamlpos.wording import shown as as_shown

DATASETS = files("pytest_siren.datasets") / "presets"
"""The dataset presets that are built in, one ``NAME.yaml`` each."""
DATASET, SANDBOX = "dataset", "sandbox_manager"
"""Keys of an eval file that may name a preset, and folders of presets beside it."""

_NAME = re.compile(r"\w[\w.+-]*")


def preset_names(folder: Traversable) -> list[str]:
    """Return the names of the presets in ``folder``, sorted."""
    found = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def read_section(
    path: Path, shown: Path, environ: Mapping[str, str], problems: list[Problem]
) -> Node | None:
    """Return the section, with ``type`` and ``config``, in the file ``path``; ``None`` if wrong.

    ``shown`` is the path in messages. What is wrong is added to ``problems``.
    """
    root, found = read_yaml(path, shown)
    if root is not None:
        root = interpolated(root, environ, found)
        data = root.plain()
        try:
            ComponentSection.model_validate(data)
        except ValidationError as error:
            found += problems_of(error, ComponentSection, data, root)
    problems += found
    return None if found else root


class Sections:
    """Puts the sections in place that an eval file, or an override, asks for by name."""

    def __init__(
        self, base: Path, shown: Path, registry: Registry, environ: Mapping[str, str]
    ) -> None:
        self.problems: list[Problem] = []
        self._base, self._shown = base, shown
        self._registry, self._environ = registry, environ

    def resolved(self, tree: Node) -> Node:
        """Return ``tree`` with a section for every name; problems are added to ``problems``."""
        for key in (DATASET, SANDBOX):
            named = tree.child(key)
            if named is not None and isinstance(named.value, str) and named.value:
                section = self._find(key, named.value, named)
                if section is not None:
                    tree = with_value(tree, (key,), section)
        return tree

    def _find(self, key: str, name: str, named: Node) -> Node | None:
        known = self._known(key)
        beside = Path(key) / f"{name}.yaml"
        if _NAME.fullmatch(name) and os.path.isfile(self._base / beside):
            shown = self._shown.parent / beside
            return read_section(self._base / beside, shown, self._environ, self.problems)
        if key == DATASET and name in preset_names(DATASETS):
            with as_file(DATASETS / f"{name}.yaml") as path:
                shown = Path("pytest_siren/datasets/presets", path.name)
                return read_section(path, shown, self._environ, self.problems)
        if key == SANDBOX or name in known:
            return node_of({"type": name}, named.place)
        what = key.replace("_", " ")
        message = f"unknown {what} {as_shown(name)}{suggestion(name, known)}"
        self.problems.append(named.place.problem(f"{message}; known: {listed(known)}"))
        return None

    def _known(self, key: str) -> list[str]:
        beside = {path.stem for path in (self._base / key).glob("*.yaml")}
        if key != DATASET:
            return sorted(beside)
        return sorted({*beside, *preset_names(DATASETS), *self._registry.names(Kind.DATASET)})
