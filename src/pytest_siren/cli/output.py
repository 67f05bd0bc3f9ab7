"""How the command ``siren`` speaks."""

from __future__ import annotations

import sys

from pytest_siren.text.words import escaped


def write_line(text: str) -> None:
    """Write a line to standard output; what a terminal might obey is escaped."""
    sys.stdout.write(escaped(text) + "\n")


def write_error(text: str) -> None:
    """Write a line to standard error, in the name of the command."""
    sys.stderr.write(f"siren: {escaped(text)}\n")
