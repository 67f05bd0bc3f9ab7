"""``siren bless``: write the scores of jobs into baseline files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_siren.cli.arguments import add_jobs_dir
from pytest_siren.cli.output import write_error, write_line

if TYPE_CHECKING:
    from pytest_siren.jobs.baselines.bless import BaselineUpdate

OK, REFUSED, NO_ANSWER = 0, 1, 2
_FOLDER = "evals/baselines"
_MOST_SHOWN = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren bless``."""
    bless = subparsers.add_parser(
        "bless",
        help="write the scores of jobs into a baseline file",
        description="Write the scores of jobs into small files that can be reviewed and kept in "
        "the repository, one for each dataset, attack and model. Exits with 0 when they are "
        "written or say the same already, 1 when jobs are incomplete or a file would change, 2 "
        "when the jobs cannot be read.",
    )
    bless.add_argument("target", metavar="JOB|SWEEP|GLOB", help="what is to be the baseline")
    bless.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"write all of it to FILE (default: files in {_FOLDER})",
    )
    bless.add_argument(
        "--allow-incomplete", action="store_true", help="also while runs have no score"
    )
    bless.add_argument("--force", action="store_true", help="change files that are there")
    add_jobs_dir(bless)
    bless.set_defaults(run=_bless)


def _bless(args: argparse.Namespace) -> int:
    # pandas takes half a second, which no other command should wait for.
    from pytest_siren.jobs.baselines.baseline import load_jobs
    from pytest_siren.jobs.baselines.bless import baseline_updates, incomplete
    from pytest_siren.jobs.baselines.files import BaselineError

    base = Path.cwd()
    try:
        source = load_jobs(args.target, Path(args.jobs_dir), base)
        lacking = [] if args.allow_incomplete else incomplete(source.runs, source.planned)
        if lacking:
            for line in lacking:
                write_error(line)
            write_error(
                "a baseline of part of the runs compares less than it seems to: finish them with "
                "pytest --resume, or bless what there is with --allow-incomplete"
            )
            return REFUSED
        found = baseline_updates(source.runs, Path(_FOLDER), args.output and Path(args.output))
    except BaselineError as error:
        write_error(str(error))
        return NO_ANSWER
    changing = [one for one in found if one.exists and one.changes]
    for one in changing:
        write_line(f"{one.path} changes:")
        _list(one.changes)
    if changing and not args.force:
        write_error("nothing was written; replace what is there with --force")
        return REFUSED
    for note in source.notes:
        write_line(note)
    return _write(found)


def _write(found: Sequence[BaselineUpdate]) -> int:
    from pytest_siren.jobs.baselines.files import write_baseline

    for one in found:
        if one.exists and not one.changes:
            write_line(f"{one.path}: unchanged, {one.scored:,} of {one.runs:,} runs scored")
            continue
        try:
            write_baseline(one.path, one.lines)
        except OSError as error:
            write_error(f"{one.path} cannot be written: {error.strerror or error}")
            return NO_ANSWER
        write_line(f"{one.path}: written, {one.scored:,} of {one.runs:,} runs scored")
    return OK


def _list(changes: Sequence[str]) -> None:
    for change in changes[:_MOST_SHOWN]:
        write_line(f"  {change}")
    if len(changes) > _MOST_SHOWN:
        write_line(f"  and {len(changes) - _MOST_SHOWN:,} more")
