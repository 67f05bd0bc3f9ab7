"""The error of a file of tasks that cannot be read."""

from __future__ import annotations


class RowError(ValueError):
    """A file cannot be read; ``line`` is 1-based, ``None`` when no line is to blame."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
