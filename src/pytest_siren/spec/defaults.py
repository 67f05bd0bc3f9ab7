"""The list ``defaults`` of prompt-siren's configurations: which files one is composed of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_siren.yamlpos.nodes import Node
from pytest_siren.yamlpos.problems import Problem
from pytest_siren.yamlpos.wording import shown as as_shown

SELF = "_self_"
_NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)*")
_KEY = re.compile(r"(?:(override|optional)\s+)*/?(?P<group>[\w./-]+)(?:@(?P<package>[\w.]+))?")
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)
_GLOBAL = "_global_"


@dataclass(frozen=True)
class Default:
    """An entry of the list."""

    group: str | None
    """Folder of the file; ``None`` for a file beside the one with the list."""
    name: str
    """Of the file, without ``.yaml``, or ``_self_``."""
    package: str | None
    """Where its content goes; ``None`` leaves it to the file, and then to the group."""
    optional: bool
    place: Node

    @property
    def file(self) -> Path:
        """Path of the file, relative to the one with the list."""
        return Path(self.group or "", f"{self.name}.yaml")

    def path(self, text: str) -> tuple[str, ...]:
        """Return where the content ``text`` of the file goes, as a path of keys."""
        header = _PACKAGE.search(text)
        package = self.package or (header.group(1) if header else None)
        if package == _GLOBAL:
            return ()
        if package is not None:
            return tuple(package.replace("_group_", self.group or "").strip(".").split("."))
        return tuple(self.group.split("/")) if self.group else ()


def defaults_of(node: Node, problems: list[Problem]) -> list[Default]:
    """Return the entries of ``node``, ``_self_`` among them: last, unless it says another place.

    A later choice for a group replaces an earlier one. What is wrong is added to ``problems``.
    """
    chosen: dict[object, Default] = {}
    entries = node.value if isinstance(node.value, tuple) else (node,)
    for entry in entries:
        for default in _entry(entry, problems):
            key = (default.group, default.package) if default.group else default.name
            chosen[key] = default
    if SELF not in chosen:
        chosen[SELF] = Default(None, SELF, None, False, node)
    return [one for one in chosen.values() if not _is_hydras(one)]


def _entry(entry: Node, problems: list[Problem]) -> Iterator[Default]:
    if isinstance(entry.value, str) and _NAME.fullmatch(entry.value.removeprefix("/")):
        yield Default(None, entry.value.removeprefix("/"), None, False, entry)
        return
    if isinstance(entry.value, dict) and len(entry.value) == 1:
        [(key, value)] = entry.value.items()
        match = _KEY.fullmatch(key)
        if match is not None:
            yield from _choices(match, key, value, problems)
            return
    message = f"wrong value for defaults: {as_shown(entry.plain())} names no file"
    problems.append(entry.place.problem(message))


def _choices(
    match: re.Match[str], key: str, value: Node, problems: list[Problem]
) -> Iterator[Default]:
    group = match["group"]
    names = value.value if isinstance(value.value, tuple) else (value,)
    for name in names:
        if name.value is None:
            continue
        if isinstance(name.value, str) and _NAME.fullmatch(name.value):
            optional = "optional" in key.split()
            yield Default(group, name.value, match["package"], optional, name)
        elif not group.startswith("hydra/"):
            message = f"wrong value for defaults: {group}: {as_shown(name.plain())} names no file"
            problems.append(name.place.problem(message))


def _is_hydras(default: Default) -> bool:
    """Whether it configures Hydra, which is not there."""
    return (default.group or "").split("/")[0] == "hydra"
