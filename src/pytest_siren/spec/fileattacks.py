"""The attacks that an eval file names or describes under ``attack`` and ``attacks``."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_siren.spec.presets import Definition, Presets
from pytest_siren.spec.wording import KeyPath
from pytest_siren.spec.wording import shown as as_shown
from pytest_siren.yamlpos.nodes import Node, Place


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
