"""Reads the rows of files of tasks."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_siren.evaluators import json_schema as strict_json
from pytest_siren.yamlpos.reader import parse_yaml, read_bytes


class RowError(ValueError):
    """A file cannot be read; ``line`` is 1-based, ``None`` if the error has no line."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


def yaml_items(text: str) -> Iterator[tuple[int, Any]]:
    """Yield line (1-based) and value of each item of the YAML list ``text``.

    Values are those of eval files: the core schema of YAML 1.2. Raises ``RowError`` with the first
    problem, including repeated keys and aliases that expand to too many values.
    """
    root, problems = parse_yaml(text, Path())
    for problem in problems:
        raise RowError(problem.line, problem.message)
    if root is None or not isinstance(root.value, tuple):
        raise RowError(root.place.line if root else 1, "must be a list of tasks")
    for node in root.value:
        yield node.place.line or 1, node.plain()


SUFFIXES = (".jsonl", ".csv", ".yaml", ".yml")


@dataclass(frozen=True)
class Row:
    """One entry of a file."""

    line: int
    """1-based."""
    value: Any


def read_rows(path: Path) -> list[Row]:
    """Return the entries of ``path``; the cells of a CSV file stay text.

    Raises ``RowError``. Nothing in the file is executed or expanded.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RowError(line, f"is not UTF-8: {error.reason}") from None
    except OSError as error:
        raise RowError(None, f"cannot be read: {error.strerror}") from None
    return list(_READERS[path.suffix.lower()](text))


def _jsonl(text: str) -> Iterator[Row]:
    # splitlines would also split at line separators inside JSON texts.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Row(number, strict_json.loads(line))
            except ValueError as error:
                raise RowError(number, f"not valid JSON: {error}") from None


def _yaml(text: str) -> Iterator[Row]:
    for line, value in yaml_items(text):
        yield Row(line, value)


def _csv(text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if header is None and any(cells):
                header = _header(cells, line)
            elif header is not None and any(cells):
                yield Row(line, _cells(header, cells, line))
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "; use JSONL for long texts" if "field limit" in str(error) else ""
        raise RowError(line, f"not valid CSV: {error}{hint}") from None


def _header(cells: list[str], line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    for index, name in enumerate(names):
        if not name:
            raise RowError(line, f"column {index + 1} has no name")
        if name in names[:index]:
            raise RowError(line, f"there are two columns {name!r}")
    return names


def _cells(header: list[str], cells: list[str], line: int) -> Mapping[str, str]:
    if len(cells) != len(header):
        raise RowError(line, f"has {len(cells)} cells, the header has {len(header)}")
    return dict(zip(header, cells, strict=True))


_READERS: Mapping[str, Callable[[str], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".yaml": _yaml,
    ".yml": _yaml,
}
