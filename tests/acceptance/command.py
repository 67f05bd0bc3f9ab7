"""The command ``siren``, in the tests' own process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_siren.cli.main import main


@dataclass(frozen=True)
class Answer:
    """How the command exited, and what it printed."""

    code: int
    output: str
    errors: str


class Command:
    """Runs the command in the folder of the project."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str) -> Answer:
        self._capsys.readouterr()
        try:
            code = main(args)
        except SystemExit as left:  # by argparse, which refuses options so
            code = int(left.code or 0)
        return Answer(code, *self._capsys.readouterr())
