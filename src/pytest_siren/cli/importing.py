"""``siren import``: jobs of runs that other tools recorded."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_siren.cli.arguments import add_jobs_dir
from pytest_siren.cli.output import write_error, write_line
from pytest_siren.datasets.agentdojo import VERSIONS
from pytest_siren.text.words import counted

OK, SOME, NO_ANSWER = 0, 1, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren import``."""
    importing = subparsers.add_parser("import", help="make jobs of runs that others recorded")
    formats = importing.add_subparsers(title="formats", required=True, metavar="FORMAT")
    agentdojo = formats.add_parser(
        "agentdojo",
        help="log files of AgentDojo",
        description="Make a job of each pipeline, suite and attack in AgentDojo's log files, which "
        "siren results, compare, report and gates read like any other. Runs that ended in an error "
        "stay errors: siren results --errors success counts them as AgentDojo does. Exits with 0, "
        "1 when files could not be imported, 2 when nothing was.",
    )
    agentdojo.add_argument("folder", metavar="DIR", help="where the log files are, at any depth")
    agentdojo.add_argument(
        "--injection-tasks",
        action="store_true",
        help="also make jobs of the runs of injection tasks as user tasks, which AgentDojo's "
        "leaderboard does not count",
    )
    agentdojo.add_argument(
        "--version",
        choices=VERSIONS,
        help="version of the benchmark (default: as logs state, or as the prompts in them tell)",
    )
    add_jobs_dir(agentdojo)
    agentdojo.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    # It loads what runs are made of.
    from pytest_siren.jobs.importing.agentdojo import LogImportError, import_logs

    try:
        done = import_logs(
            Path(args.folder),
            Path(args.jobs_dir),
            injection_tasks=args.injection_tasks,
            version=args.version,
        )
    except LogImportError as error:
        write_error(str(error))
        return NO_ANSWER
    for problem in done.problems:
        write_error(problem)
    for job in done.jobs:
        errors = f", {counted(job.errors, 'error')}" if job.errors else ""
        write_line(f"{job.path}: {counted(job.runs, 'run')}{errors}")
    for note in done.notes:
        write_line(note)
    if done.left_out:
        write_line(
            f"{counted(done.left_out, 'run')} of injection tasks as user tasks left out "
            "(--injection-tasks imports them)"
        )
    files = f"; {counted(done.unreadable, 'file')} could not be imported" if done.unreadable else ""
    write_line(f"{counted(done.runs, 'run')} in {counted(len(done.jobs), 'job')}{files}")
    return SOME if done.unreadable else OK
