"""The command line's parser, which knows what a misspelt command was meant to be."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import Any


class Parser(argparse.ArgumentParser):
    """Names the nearest command in its message; so do the parsers of its commands."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            known = [str(one) for one in action.choices or ()]
            if nearest := get_close_matches(str(value), known, n=1):
                error.message = f"{value!r}: did you mean {nearest[0]!r}? ({', '.join(known)})"
            raise
