"""Output of the command ``siren``."""

from __future__ import annotations

import sys

from pytest_siren.text.words import escaped


def write_line(text: str) -> None:
    """Write a line to standard output; control characters are escaped."""
    sys.stdout.write(escaped(text) + "\n")


def write_error(text: str) -> None:
    """Write a line to standard error, after ``siren:``."""
    sys.stderr.write(f"siren: {escaped(text)}\n")
