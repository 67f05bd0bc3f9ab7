"""``--set``: values that replace, add or delete keys of an eval file, and sweeps over them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path

from pytest_siren.spec.errors import Problem
from pytest_siren.spec.interpolation import interpolated
from pytest_siren.yamlpos.nodes import Node, Place, branch, moved
from pytest_siren.yamlpos.reader import parse_yaml

ATTACK_CONFIG = ("attack", "config")
"""Overrides below it apply to the config of every selected attack."""

_SETTING = re.compile(
    r"(?P<sign>[+~]?)(?P<key>[^\s=+~.]+(\.[^\s=.]+)*)(=(?P<value>.*))?", re.DOTALL
)
_OPENERS, _CLOSERS = "[{", "]}"


class Action(StrEnum):
    """What an override does to its key."""

    SET = "="
    ADD = "+"
    DELETE = "~"


@dataclass(frozen=True)
class Choice:
    """One value of an override; ``text`` is how the user wrote it."""

    text: str
    node: Node


@dataclass(frozen=True)
class Override:
    """One ``--set``; more than one choice is a sweep."""

    action: Action
    key: str
    path: tuple[str, ...]
    place: Place
    choices: tuple[Choice, ...] = ()
    """Empty for deletions."""

    @property
    def for_attacks(self) -> bool:
        return self.path[:2] == ATTACK_CONFIG and len(self.path) > 2


@dataclass(frozen=True)
class Change:
    """An override with the choice made."""

    override: Override
    choice: Choice | None


Cell = tuple[Change, ...]


def parse_overrides(
    settings: Sequence[str], file: Path, environ: Mapping[str, str]
) -> tuple[tuple[Override, ...], list[Problem]]:
    """Parse ``--set`` arguments; the last one for a key counts. ``file`` is named in problems."""
    overrides: dict[str, Override] = {}
    problems: list[Problem] = []
    for setting in settings:
        place = Place(file, None, f"--set {setting}")
        override = _parse(setting, place, environ, problems)
        if override is not None:
            overrides[override.key] = override
    return tuple(overrides.values()), problems


def cells(overrides: Sequence[Override]) -> Iterator[Cell]:
    """Yield one combination of choices after the other; one empty cell if there is no override."""
    options = [
        [Change(override, choice) for choice in override.choices or (None,)]
        for override in overrides
    ]
    yield from product(*options)


def swept(cell: Cell) -> dict[str, str]:
    """Return the keys of ``cell`` that have several choices, each with the one that was made."""
    return {
        change.override.key: change.choice.text
        for change in cell
        if change.choice and len(change.override.choices) > 1
    }


def _parse(
    setting: str, place: Place, environ: Mapping[str, str], problems: list[Problem]
) -> Override | None:
    match = _SETTING.fullmatch(setting)
    action = Action(match["sign"] or "=") if match else Action.SET
    if match is None or (match["value"] is None) is not (action is Action.DELETE):
        problems.append(place.problem("write KEY=VALUE, +KEY=VALUE or ~KEY"))
        return None
    key = match["key"]
    path = tuple(key.split("."))
    if path[0] == "include":
        problems.append(place.problem("files are included by eval files only"))
        return None
    if action is Action.DELETE:
        return Override(action, key, path, place)
    texts = [text.strip() for text in _split(match["value"])]
    if len(texts) > 1 and (len(set(texts)) < len(texts) or "" in texts):
        problems.append(place.problem("the values of a sweep must differ and not be empty"))
        return None
    choices = []
    for text in texts:
        node, found = parse_yaml(text, place.path)
        problems += (place.problem(problem.message) for problem in found)
        if not found:
            value = _placed(node or Node(None, place), place)
            choices.append(Choice(text, interpolated(value, environ, problems, path)))
    return Override(action, key, path, place, tuple(choices)) if choices else None


def _placed(node: Node, place: Place) -> Node:
    if isinstance(node.value, dict):
        return branch({key: _placed(child, place) for key, child in node.value.items()}, place)
    if isinstance(node.value, tuple):
        return branch(tuple(_placed(child, place) for child in node.value), place)
    return moved(node, place)


def _split(text: str) -> list[str]:
    """Split ``text`` at the commas that no bracket and no quotes enclose."""
    parts, depth, quote, escaped = [""], 0, "", False
    for char in text:
        if quote:
            closes = char == quote and not escaped
            escaped = char == "\\" and quote == '"' and not escaped
            quote = "" if closes else quote
        elif char in "'\"" and parts[-1].rstrip()[-1:] in ("", *"[{,:'"):
            quote = char
        elif char in _OPENERS:
            depth += 1
        elif char in _CLOSERS:
            depth -= 1
        elif char == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += char
    return parts
