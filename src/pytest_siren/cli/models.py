"""``siren models``: the weights of local models."""

from __future__ import annotations

import argparse
import sys
from typing import TextIO

from pytest_siren.models.weights import (
    CATALOGUE,
    PullError,
    WeightsMissingError,
    locate,
    place,
    pull,
)

OK, NO_ANSWER = 0, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren models pull`` and ``siren models list``."""
    models = subparsers.add_parser("models", help="fetch the weights of local models")
    commands = models.add_subparsers(title="commands", required=True, metavar="COMMAND")
    fetch = commands.add_parser("pull", help="fetch weights, once")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    fetch.set_defaults(run=_pull)
    show = commands.add_parser("list", help="show the local models and where their weights are")
    show.set_defaults(run=_list)


def _pull(args: argparse.Namespace) -> int:
    for name in args.names or CATALOGUE:
        try:
            pull(name, lambda line: _say(sys.stdout, line))
        except (PullError, ValueError, OSError) as error:
            _say(sys.stderr, f"siren: {error}")
            return NO_ANSWER
    return OK


def _list(args: argparse.Namespace) -> int:
    for weights in CATALOGUE.values():
        size = f"{weights.size / 1e6:.0f} MB"
        place_now = f"{_state(weights.name)}  {place(weights)}"
        _say(sys.stdout, f"local:{weights.name}  {size}  {weights.licence}  {place_now}")
    return OK


def _state(name: str) -> str:
    try:
        locate(name)
    except WeightsMissingError:
        return "damaged" if place(CATALOGUE[name]).is_file() else "absent"
    return "present"


def _say(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()
