"""``siren diff``: the differences between the configurations of two jobs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pytest_siren.cli.arguments import add_jobs_dir
from pytest_siren.cli.output import write_error, write_line
from pytest_siren.jobs.differences import MISSING, differences
from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_config
from pytest_siren.jobs.sweeps import SweepError, find_jobs
from pytest_siren.records import JobConfig

SAME, DIFFERENT, NO_ANSWER = 0, 1, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren diff``."""
    diff = subparsers.add_parser(
        "diff",
        help="say why two jobs have different configurations",
        description="Name every key of dataset, agent and attack that differs between two jobs. "
        "How often, how fast and within which limits they run makes no difference. Exits with 0 "
        "when they have the same configuration, 1 when not, 2 when a job cannot be read.",
    )
    diff.add_argument("left", metavar="JOB_A", help="name or path")
    diff.add_argument("right", metavar="JOB_B", help="name or path")
    add_jobs_dir(diff)
    diff.add_argument("--json", action="store_true", help="as JSON, values in full")
    diff.set_defaults(run=_diff)


def _diff(args: argparse.Namespace) -> int:
    try:
        left, right = (_config(Path(args.jobs_dir), name) for name in (args.left, args.right))
    except (SweepError, RecordError) as error:
        write_error(str(error))
        return NO_ANSWER
    found = differences(left.values, right.values)
    if args.json:
        rows = [
            {"key": one.key, "left": _plain(one.left), "right": _plain(one.right)} for one in found
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        for one in found:
            write_line(str(one))
        if not found:
            write_line(f"same configuration: {left.identity}")
    return DIFFERENT if found else SAME


def _config(folder: Path, name: str) -> JobConfig:
    jobs, _ = find_jobs(folder, name, Path.cwd())
    if len(jobs) > 1:
        raise SweepError(f"{name!r} names {len(jobs)} jobs; siren diff compares one with another")
    return load_config(jobs[0])


def _plain(value: Any) -> Any:
    return None if value is MISSING else value
