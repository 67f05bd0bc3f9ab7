"""Reads a YAML list, each item with its line, and refuses what is ambiguous or explosive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.reader import ReaderError

from pytest_siren.datasets.inline.row_error import RowError

_MOST_NODES = 1_000_000
"""Values that a file may have once its aliases are written out."""


def yaml_items(text: str) -> Iterator[tuple[int, Any]]:
    """Yield line (1-based) and value of each item of the list that ``text`` is.

    Raises ``RowError``, also for repeated keys and for aliases that stand for too many values.
    """
    try:
        loader = yaml.SafeLoader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RowError(line, f"not valid YAML: character {chr(error.character)!r}") from None
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.SequenceNode):
            raise RowError(1 if root is None else _line(root), "must be a list of tasks")
        _Guard().check(root)
        for node in root.value:
            yield _line(node), _value(loader, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = mark.line + 1 if mark else None
        raise RowError(place, f"not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise RowError(None, "not valid YAML: nested too deeply") from None
    finally:
        loader.dispose()


def _value(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    try:
        return loader.construct_document(node)
    except ValueError as error:  # a date such as 2024-99-99
        raise RowError(_line(node), f"not valid YAML: {error}") from None


class _Guard:
    """Counts the values below each node as if aliases were written out."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def check(self, node: yaml.Node) -> int:
        """Return the number of values below ``node``."""
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise RowError(_line(node), "an alias stands for a value that it is itself part of")
        self._open.add(id(node))
        size = 1 + sum(map(self.check, self._children(node)))
        if size > _MOST_NODES:
            raise RowError(_line(node), f"aliases stand for more than {_MOST_NODES} values")
        self._open.remove(id(node))
        self._sizes[id(node)] = size
        return size

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.MappingNode):
            return []
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise RowError(_line(key), f"the key {key.value!r} stands twice in one mapping")
                seen.add((key.tag, key.value))
        return [child for pair in node.value for child in pair]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
