"""The command ``siren``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pytest_siren import __version__
from pytest_siren.cli import bless, compare, config, diff, jobs, models, report, results, resume

NO_ANSWER = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (the answer is no) or 2 (no answer)."""
    parser = argparse.ArgumentParser(
        prog="siren", description="Companion of pytest-siren: evaluations of LLM agents as tests."
    )
    parser.add_argument("--version", action="version", version=f"pytest-siren {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (results, compare, bless, report, jobs, diff, resume, config, models):
        module.add_parser(commands)
    args = parser.parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_ANSWER
    except KeyboardInterrupt:
        sys.stderr.write("siren: interrupted\n")
        return NO_ANSWER
    return code
