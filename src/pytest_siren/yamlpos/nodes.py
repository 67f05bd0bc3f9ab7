"""YAML values that remember where they were written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pytest_siren.yamlpos.problems import KeyPath, Problem

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: on a line of a file, or in an option of the command line."""

    path: Path
    line: int | None
    option: str | None = None

    def problem(self, message: str) -> Problem:
        prefix = f"{self.option}: " if self.option else ""
        return Problem(self.path, self.line, f"{prefix}{message}")


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a list or a mapping of nodes; never changed, so parts are shared freely."""

    value: Scalar | tuple[Node, ...] | dict[str, Node]
    place: Place
    """Of the key that names the value, where it has one."""
    size: int = field(default=1, compare=False)
    """How many scalars, lists and mappings it holds, itself included; aliases count in full."""
    depth: int = field(default=1, compare=False)
    """How many levels it has, its own included."""

    def plain(self) -> Any:
        """Return the value as JSON-able data of its own."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """Return the value of a key or at an index; ``None`` where there is none."""
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, tuple) and isinstance(part, int):
            return self.value[part] if 0 <= part < len(self.value) else None
        return None

    def at(self, path: Sequence[str | int]) -> Node | None:
        """Return the value at ``path``; ``None`` where there is none."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.child(part)
        return node

    def nearest(self, path: Sequence[str | int]) -> Node:
        """Return the value at ``path``, or the last one on the way to it."""
        node = self
        for part in path:
            below = node.child(part)
            if below is None:
                break
            node = below
        return node


def branch(value: tuple[Node, ...] | dict[str, Node], place: Place) -> Node:
    """Return a list or mapping node."""
    children = value.values() if isinstance(value, dict) else value
    size = 1 + sum(child.size for child in children)
    return Node(value, place, size, 1 + max((child.depth for child in children), default=0))


def node_of(data: Any, place: Place) -> Node:
    """Return JSON-able ``data`` as nodes that all stand at ``place``."""
    if isinstance(data, dict):
        return branch({key: node_of(item, place) for key, item in data.items()}, place)
    if isinstance(data, list | tuple):
        return branch(tuple(node_of(item, place) for item in data), place)
    return Node(data, place)


def merged(under: Node, over: Node) -> Node:
    """Return ``over`` laid upon ``under``: mappings key by key, all else replaced."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    value = dict(under.value)
    for key, child in over.value.items():
        value[key] = merged(value[key], child) if key in value else child
    return branch(value, over.place)


class NotAMappingError(ValueError):
    """A path leads through a value that has no keys."""

    def __init__(self, path: KeyPath) -> None:
        self.path = path
        super().__init__(path)


def with_value(root: Node, path: KeyPath, new: Node) -> Node:
    """Return ``root`` with ``new`` at ``path``; missing and null mappings on the way are made.

    Raises ``NotAMappingError`` with the part of ``path`` that can hold nothing.
    """
    return _with(root, path, new, 0)


def _with(node: Node, path: KeyPath, new: Node, depth: int) -> Node:
    if depth == len(path):
        return new
    part = path[depth]
    if isinstance(node.value, tuple) and isinstance(part, int) and part < len(node.value):
        items = list(node.value)
        items[part] = _with(items[part], path, new, depth + 1)
        return branch(tuple(items), node.place)
    if (isinstance(node.value, dict) or node.value is None) and isinstance(part, str):
        value = dict(node.value or {})
        below = value.get(part, Node(None, new.place))
        value[part] = _with(below, path, new, depth + 1)
        return branch(value, node.place)
    raise NotAMappingError(path[:depth])


def without(root: Node, path: KeyPath) -> Node:
    """Return ``root`` without the key or item at ``path``, which must be there."""
    parent = root.at(path[:-1])
    if parent is None or parent.child(path[-1]) is None:
        raise KeyError(path)
    if isinstance(parent.value, dict):
        kept: Any = {key: node for key, node in parent.value.items() if key != path[-1]}
    else:
        assert isinstance(parent.value, tuple)
        kept = tuple(node for index, node in enumerate(parent.value) if index != path[-1])
    return with_value(root, path[:-1], branch(kept, parent.place))


def moved(node: Node, place: Place) -> Node:
    """Return ``node`` as if written at ``place``; what it holds stays where it was written."""
    return Node(node.value, place, node.size, node.depth)


_WORDS: dict[str, Scalar] = {
    word: value
    for value, words in (
        (None, ("", "~", "null", "Null", "NULL")),
        (True, ("true", "True", "TRUE")),
        (False, ("false", "False", "FALSE")),
    )
    for word in words
}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL_LOOK = re.compile(r"[-+]?0[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
NOT_IN_1_1 = re.compile(r"(?:[-+]?[0-9]+[eE][-+]?[0-9]+|0o[0-7]+)$")
"""Of the numbers of YAML 1.2, those that are text for readers and writers of YAML 1.1."""
_NUMBER_STARTS = "+-.0123456789"
_LONGEST_NUMBER = 100


def resolve(text: str) -> Scalar:
    """Return the value that ``text`` writes.

    Raises ``ValueError`` for infinity and not-a-number, which JSON, and so a record, cannot hold.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER or _OCTAL_LOOK.fullmatch(text):
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
        raise ValueError(f"{text!r} is not a finite number (put text in quotes)")
    return float(text) if _FLOAT.fullmatch(text) else text


def resolve_dumped(text: str) -> Scalar:
    """Return the value that PyYAML wrote as ``text``, unquoted.

    PyYAML, which follows YAML 1.1, quotes whatever is another value there, but neither ``1e3`` nor
    ``0o17``, and writes no number like these. Raises as ``resolve``.
    """
    return text if NOT_IN_1_1.fullmatch(text) else resolve(text)
