"""Problems in files that people write, each with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pytest_siren.text.words import escaped


@dataclass(frozen=True)
class Problem:
    """A problem of an eval file, or of the command line's changes to it."""

    path: Path
    line: int | None
    """1-based; ``None`` for a problem without a line."""
    message: str

    def __str__(self) -> str:
        where = str(self.path) if self.line is None else f"{self.path}:{self.line}"
        return escaped(f"{where}: {self.message}")


KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indices that lead from the top of a file to a value."""

_LONGEST = 60
_PLAIN_KEY = re.compile(r"[\w-]+")


def shown(value: Any) -> str:
    """Return ``value`` for a message: text in quotes, other values in YAML."""
    if isinstance(value, str):
        return _cut(repr(value))
    return _cut(json.dumps(value, default=repr))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...{text[-1]}"


def dotted(path: Sequence[str | int]) -> str:
    """Return ``path`` in the users' notation: ``dataset.config.tasks[2].prompt``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def within(path: Sequence[str | int]) -> str:
    """Return `` in dataset.config``, or nothing for the top of the file."""
    return f" in {dotted(path)}" if path else ""
