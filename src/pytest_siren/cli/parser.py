"""The command line's parser, which suggests the nearest command for a misspelt one."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_siren.text.words import nearest


class Parser(argparse.ArgumentParser):
    """Names the nearest command in its message; so do the parsers of its commands."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            known = [str(one) for one in action.choices or ()]
            if guess := nearest(str(value), known):
                error.message = f"{value!r}: did you mean {guess!r}? ({', '.join(known)})"
            raise
