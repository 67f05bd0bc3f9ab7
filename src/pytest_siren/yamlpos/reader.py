"""Reads YAML into nodes that know their lines, and says clearly what it cannot read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pytest_siren.yamlpos.builder import NodeBuilder, UnreadableError
from pytest_siren.yamlpos.files import read_bytes
from pytest_siren.yamlpos.nodes import Node, Scalar
from pytest_siren.yamlpos.problems import Problem
from pytest_siren.yamlpos.scalars import resolve

_NOT_ALLOWED = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # YAML 1.2.2, 5.1
)


def read_yaml(path: Path, shown: Path) -> tuple[Node | None, list[Problem]]:
    """Return the mapping that the file holds, ``None`` if it holds none, and all problems.

    ``shown`` is the path in messages. Nothing in the file is ever code: tags are refused, aliases
    may expand to 100,000 values (or ten times what the file holds), and nesting is at most 100
    levels deep.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        return None, [Problem(shown, None, f"cannot be read: {error.strerror or error}")]
    root, problems = decode_yaml(data, shown)
    if root is None or root.value is None:
        return None, problems or [Problem(shown, None, "the file is empty")]
    if not isinstance(root.value, dict):
        message = f"the top level must be a mapping of keys, not {_kind(root)}"
        return None, [*problems, Problem(shown, root.place.line, message)]
    return root, problems


def decode_yaml(
    data: bytes, shown: Path, resolve: Callable[[str], Scalar] = resolve
) -> tuple[Node | None, list[Problem]]:
    """Return the value of the only YAML document in ``data``, as ``parse_yaml`` does."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        return None, [Problem(shown, line, f"not UTF-8 text (byte 0x{byte:02x})")]
    return parse_yaml(text, shown, resolve)


def parse_yaml(
    text: str, shown: Path, resolve: Callable[[str], Scalar] = resolve
) -> tuple[Node | None, list[Problem]]:
    """Return the value of the only YAML document in ``text``, ``None`` if there is none.

    ``resolve`` says what an unquoted scalar means.
    """
    if bad := _NOT_ALLOWED.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        code = f"U+{ord(bad.group()):04X}"
        return None, [Problem(shown, line, f"YAML does not allow the character {code}")]
    builder = NodeBuilder(shown, resolve)
    try:
        for event in _events(text):
            builder.add(event)
    except UnreadableError as error:
        return None, [*builder.problems, error.problem]
    except yaml.MarkedYAMLError as error:
        return None, [*builder.problems, _syntax_problem(error, text, shown)]
    return builder.root, builder.problems


def _events(text: str) -> Iterator[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    return events


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, shown: Path) -> Problem:
    mark = error.problem_mark or error.context_mark
    index, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines() or [""]
    if index >= len(lines) or (index, column) == (len(lines) - 1, len(lines[-1])):
        return Problem(shown, len(lines), f"invalid YAML: it ends {error.context}")
    line = lines[index]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Problem(shown, index + 1, "the line is indented with a tab; YAML wants spaces")
    return Problem(shown, index + 1, f"invalid YAML: {error.problem or error.context}")


def _kind(node: Node) -> str:
    return "a list" if isinstance(node.value, tuple) else "a single value"
