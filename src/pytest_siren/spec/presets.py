"""Attack presets: in the eval file, in ``attack/NAME.yaml`` beside it, built in, or a bare type."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.spec.errors import Problem
from pytest_siren.spec.newline import as_jinja_has_it
from pytest_siren.spec.sections import preset_names, read_section
from pytest_siren.spec.wording import KeyPath, listed, suggestion
from pytest_siren.spec.wording import shown as as_shown
from pytest_siren.yamlpos.nodes import Node, Place, node_of
from pytest_siren.yamlpos.reader import read_yaml

PRESETS = files("pytest_siren.attacks") / "presets"
"""The presets that are built in, one ``NAME.yaml`` each."""
FOLDER = "attack"
"""Where an eval file's neighbours keep presets of their own."""

_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class Definition:
    """An attack's section, a mapping with ``type`` and ``config``, under the attack's name."""

    name: str
    section: Node
    at: KeyPath
    """Where messages say that the section stands."""


class Presets:
    """Looks attacks up by name for one eval file."""

    def __init__(
        self, base: Path, shown: Path, registry: Registry, environ: Mapping[str, str]
    ) -> None:
        self.problems: list[Problem] = []
        self._base, self._shown = base, shown
        self._registry, self._environ = registry, environ
        self._read: dict[Path, Node | None] = {}

    def find(self, name: str, place: Place, defined: Mapping[str, Definition]) -> Definition | None:
        """Return the attack called ``name``, which ``place`` asks for.

        ``defined`` are the attacks that the eval file itself describes; they come first. What is
        wrong is added to ``problems``, and then there is no definition.
        """
        if name in defined:
            return defined[name]
        if not self.check_name(name, place):
            return None
        beside = Path(FOLDER) / f"{name}.yaml"
        if os.path.isfile(self._base / beside):
            found = self._from_file(name, self._base / beside, self._shown.parent / beside)
            return found and replace(found, section=as_theirs(found.section))
        built_in = PRESETS / f"{name}.yaml"
        if name in built_in_names():
            with as_file(built_in) as path:
                return self._from_file(name, path, Path("pytest_siren/attacks/presets", path.name))
        if name in self._registry.names(Kind.ATTACK):
            return Definition(name, node_of({"type": name}, place), ("attack",))
        known = self.names(defined)
        message = f"unknown attack {as_shown(name)}{suggestion(name, known)}"
        self.problems.append(place.problem(f"{message}; known: {listed(known)}"))
        return None

    def check_name(self, name: str, place: Place) -> bool:
        """Tell whether ``name`` can name an attack: it becomes part of file names and node ids."""
        if _NAME.fullmatch(name):
            return True
        message = (
            f"the attack name {as_shown(name)} may hold letters, digits, '_', '-', '+' and '.'"
        )
        self.problems.append(
            place.problem(f"{message} only, and begins with none of the last three")
        )
        return False

    def names(self, defined: Mapping[str, Definition]) -> list[str]:
        """Return every name that ``find`` knows, sorted."""
        beside = {path.stem for path in (self._base / FOLDER).glob("*.yaml")}
        return sorted({*defined, *beside, *built_in_names(), *self._registry.names(Kind.ATTACK)})

    def _from_file(self, name: str, path: Path, shown: Path) -> Definition | None:
        if path not in self._read:
            self._read[path] = read_section(path, shown, self._environ, self.problems)
        section = self._read[path]
        return None if section is None else Definition(name, section, ())


def as_theirs(section: Node) -> Node:
    """Return the ``section`` of a preset file as prompt-siren reads it, whose format that is.

    A copy of a built-in preset is that preset.
    """
    copied = section.at(("config", "attack_template"))
    if copied is not None and copied.value in built_in_templates():
        return section
    return as_jinja_has_it(section)


@cache
def built_in_templates() -> frozenset[str]:
    """Return the templates of the built-in presets."""
    found = set[str]()
    for name in built_in_names():
        with as_file(PRESETS / f"{name}.yaml") as path:
            root, _ = read_yaml(path, path)
        template = root and root.at(("config", "attack_template"))
        if template is not None and isinstance(template.value, str):
            found.add(template.value)
    return frozenset(found)


def built_in_names() -> list[str]:
    """Return the names of the built-in presets, sorted."""
    return preset_names(PRESETS)
