"""Reads a YAML list, each item with its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_siren.datasets.inline.row_error import RowError
from pytest_siren.yamlpos.reader import parse_yaml


def yaml_items(text: str) -> Iterator[tuple[int, Any]]:
    """Yield line (1-based) and value of each item of the list that ``text`` is.

    Values are those of eval files: the core schema of YAML 1.2. Raises ``RowError`` with the first
    problem, repeated keys and aliases that expand to too many values among them.
    """
    root, problems = parse_yaml(text, Path())
    for problem in problems:
        raise RowError(problem.line, problem.message)
    if root is None or not isinstance(root.value, tuple):
        raise RowError(root.place.line if root else 1, "must be a list of tasks")
    for node in root.value:
        yield node.place.line or 1, node.plain()
