"""Presets and attack files, and sections of eval files that name them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from pytest_siren.evaluation.components import Kind, Registry
from pytest_siren.spec.errors import listed, problems_of, suggestion
from pytest_siren.spec.overrides import interpolated
from pytest_siren.spec.schema import ComponentSection
from pytest_siren.yamlpos.nodes import Node, Place, node_of, with_value
from pytest_siren.yamlpos.problems import KeyPath, Problem
from pytest_siren.yamlpos.problems import shown as as_shown
from pytest_siren.yamlpos.reader import read_yaml

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


_CONFIG = ("config",)
_KEY = "keep_trailing_newline"


def as_jinja_has_it(section: Node) -> Node:
    """Return the ``section`` of an attack with the last newline of its template left out.

    It stays as it is where the section itself says what becomes of the newline, and where there is
    none at the end.
    """
    kind, config = section.child("type"), section.at(_CONFIG)
    if kind is None or kind.value != "template_string" or config is None:
        return section
    if not isinstance(config.value, dict) or _KEY in config.value:
        return section
    template = config.child("attack_template")
    if template is not None and not str(template.value).endswith("\n"):
        return section
    return with_value(section, (*_CONFIG, _KEY), Node(False, config.place))


PRESETS = files("pytest_siren.attacks") / "presets"
"""The presets that are built in, one ``NAME.yaml`` each."""
FOLDER = "attack"
"""Where an eval file's neighbours keep presets of their own."""


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


@dataclass
class FileAttacks:
    """What an eval file says of attacks."""

    defined: dict[str, Definition] = field(default_factory=dict)
    """Those that it describes itself."""
    chosen: dict[str, Place] = field(default_factory=dict)
    """Names of all that it wants to run, described or not, in its order."""


def file_attacks(root: Node, presets: Presets) -> FileAttacks:
    """Read the keys ``attack`` and ``attacks`` of an eval file.

    Problems are added to those of ``presets``. Entries of a wrong type are left out: the schema of
    the eval file reports them.
    """
    attacks = FileAttacks()
    one, several = root.child("attack"), root.child("attacks")
    if one is not None and several is not None and None not in (one.value, several.value):
        message = "both 'attack' and 'attacks' are given; give one of them"
        presets.problems.append(several.place.problem(message))
    if one is not None:
        _add(one, ("attack",), attacks, presets)
    if several is not None and isinstance(several.value, dict):
        for name, section in several.value.items():
            _define(name, section, section.place, ("attacks", name), attacks, presets)
    elif several is not None and isinstance(several.value, tuple):
        for index, entry in enumerate(several.value):
            _add(entry, ("attacks", index), attacks, presets)
    return attacks


def _add(entry: Node, at: KeyPath, attacks: FileAttacks, presets: Presets) -> None:
    if isinstance(entry.value, str) and entry.value:
        _choose(entry.value, entry.place, attacks, presets)
    elif isinstance(entry.value, dict):
        candidates = (
            entry.child("name"),
            entry.at(("config", "template_short_name")),
            entry.at(("config", "attack_name")),
            entry.child("type"),
        )
        for node in candidates:
            if node is not None and isinstance(node.value, str) and node.value:
                _define(node.value, entry, node.place, at, attacks, presets)
                return


def _define(
    name: str,
    section: Node,
    place: Place,
    at: KeyPath,
    attacks: FileAttacks,
    presets: Presets,
) -> None:
    if not isinstance(section.value, dict) or not presets.check_name(name, place):
        return
    if _choose(name, place, attacks, presets):
        attacks.defined[name] = Definition(name, section, at)


def _choose(name: str, place: Place, attacks: FileAttacks, presets: Presets) -> bool:
    if name in attacks.chosen:
        first = attacks.chosen[name].line
        message = f"duplicate attack name {as_shown(name)} (first on line {first})"
        presets.problems.append(place.problem(message))
        return False
    attacks.chosen[name] = place
    return True
