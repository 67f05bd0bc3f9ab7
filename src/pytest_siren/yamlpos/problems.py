"""Problems in files that people write, each with its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an eval file or with what the command line asks of it."""

    path: Path
    line: int | None
    """1-based; ``None`` for what no line of the file says."""
    message: str

    def __str__(self) -> str:
        where = str(self.path) if self.line is None else f"{self.path}:{self.line}"
        return printable(f"{where}: {self.message}")


def printable(text: str) -> str:
    """Return ``text`` on one line, with every character that a terminal might obey escaped."""
    if text.isprintable():
        return text
    one_line = " ".join(text.split("\n"))
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in one_line
    )
