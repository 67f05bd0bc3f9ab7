"""``siren compare``: test whether one side is worse than another, pair by pair."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_siren.cli.arguments import add_cluster, add_jobs_dir
from pytest_siren.cli.output import write_error, write_line

if TYPE_CHECKING:
    from pytest_siren.reports.comparison import ComparisonReport

OK, WORSE, NO_ANSWER = 0, 1, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren compare``."""
    compare = subparsers.add_parser(
        "compare",
        help="compare jobs pair by pair",
        description="Compare B with A pair by pair: the same task, attack and run index. Each is a "
        "job, a sweep, a glob over names of jobs, a baseline file or a folder of such. Exits with "
        "0 when B is not significantly worse, 1 when it is (or when, with --margin, it is not "
        "shown that it worsens by less), 2 when the two cannot be compared or the "
        "interval and the p-value of a measure contradict each other.",
    )
    compare.add_argument("left", metavar="A", help="what to compare with")
    compare.add_argument("right", metavar="B", help="what is judged")
    compare.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    compare.add_argument(
        "--margin",
        type=_share,
        metavar="M",
        help="demand that B is shown to worsen by less than M in every measure, such as 0.02",
    )
    add_cluster(compare)
    compare.add_argument(
        "--confidence", type=_share, default=0.95, metavar="C", help="of intervals (default: 0.95)"
    )
    compare.add_argument(
        "--seed", type=int, default=0, help="of bootstrap and permutations (default: 0)"
    )
    add_jobs_dir(compare)
    compare.set_defaults(run=_compare)


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _compare(args: argparse.Namespace) -> int:
    # pandas and scipy take a second, which no other command should wait for.
    from pytest_siren.jobs.baselines.baseline import load_source
    from pytest_siren.jobs.baselines.files import BaselineError
    from pytest_siren.jobs.reading.job_config import RecordError
    from pytest_siren.metrics.compare.paired import compare
    from pytest_siren.metrics.rates.choices import Cluster
    from pytest_siren.reports.comparison import report

    try:
        left, right = (
            load_source(target, Path(args.jobs_dir), Path.cwd())
            for target in (args.left, args.right)
        )
        found = report(
            left,
            right,
            compare(
                left.runs,
                right.runs,
                margin=args.margin,
                confidence=args.confidence,
                cluster=Cluster(args.cluster),
                seed=args.seed,
            ),
        )
    except (BaselineError, RecordError) as error:
        write_error(str(error))
        return NO_ANSWER
    if found.comparison.mixed:
        for line in found.comparison.mixed:
            write_error(line)
        write_error("name jobs of one configuration on either side, or compare them one by one")
        return NO_ANSWER
    if not found.comparison.tests:
        _complain_of_no_pairs(found)
        return NO_ANSWER
    _show(found, args.format)
    if found.worse:
        return WORSE
    return NO_ANSWER if found.comparison.uncompared or found.undecided else OK


def _show(found: ComparisonReport, form: str) -> None:
    from pytest_siren.reports.comparison import as_json
    from pytest_siren.reports.comparison_pages import markdown, text_lines

    match form:
        case "json":
            sys.stdout.write(json.dumps(as_json(found), indent=2, allow_nan=False) + "\n")
        case "markdown":
            sys.stdout.write(markdown(found))
        case _:
            for line in text_lines(found):
                write_line(line)


def _complain_of_no_pairs(found: ComparisonReport) -> None:
    from pytest_siren.reports.comparison_pages import left_out, side

    write_error("nothing can be compared: no run is scored on both sides")
    write_error(f"A: {side(found.left)}")
    write_error(f"B: {side(found.right)}")
    for one in found.comparison.measures:
        for line in left_out(one):
            write_error(f"{one.measure}: {line}")
