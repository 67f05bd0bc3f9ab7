"""prompt-siren's commands to resume jobs, implemented by pytest's option ``--resume``."""

from __future__ import annotations

import argparse
import subprocess
import sys

from pytest_siren.cli.run import add_slurm, slurm_args

_CANCELLED = "CancelledError"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren resume-sweep``."""
    resume = subparsers.add_parser(
        "resume-sweep",
        help="resume a sweep: the same as pytest --resume",
        description="Resume all jobs of a sweep, or those whose names match a pattern. "
        "Runs pytest --resume, and exits as it does.",
    )
    target = resume.add_mutually_exclusive_group(required=True)
    target.add_argument("-s", "--sweep-id", metavar="ID", help="the sweep's id")
    target.add_argument("-p", "--pattern", metavar="GLOB", help="glob over names of jobs")
    _add_options(resume)
    resume.set_defaults(run=_resume, job_path=None)


def add_resume(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren jobs resume``."""
    resume = subparsers.add_parser(
        "resume",
        help="resume a job, or those of a sweep: the same as pytest --resume",
        description="Resume a job, all jobs of a sweep, or those whose names match a pattern. "
        f"Executes what is pending, and what ended in {_CANCELLED} unless -e names other types. "
        "Runs pytest --resume, and exits as it does.",
    )
    target = resume.add_mutually_exclusive_group(required=True)
    target.add_argument("-p", "--job-path", metavar="PATH", help="the job's folder")
    target.add_argument("-s", "--sweep-id", metavar="ID", help="the sweep's id")
    target.add_argument("--pattern", metavar="GLOB", help="glob over names of jobs")
    _add_options(resume)
    resume.set_defaults(run=_resume, retry_by_default=[_CANCELLED])


def _add_options(resume: argparse.ArgumentParser) -> None:
    resume.add_argument("-d", "--jobs-dir", metavar="DIR", help="where jobs are")
    resume.add_argument(
        "-e",
        "--retry-on-error",
        action="append",
        default=[],
        metavar="TYPE",
        help="execute runs again that ended in this type of error; repeatable, '' for none",
    )
    resume.add_argument("--only-failed", action="store_true", help="leave out what has a score")
    resume.add_argument("--dry-run", action="store_true", help="show what is left, run nothing")
    add_slurm(resume)
    resume.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as --set of pytest")
    resume.set_defaults(retry_by_default=[])


def _resume(args: argparse.Namespace) -> int:
    return subprocess.call([sys.executable, "-m", "pytest", *pytest_args(args)])


def pytest_args(args: argparse.Namespace) -> list[str]:
    """Return the equivalent arguments of pytest."""
    given = ["--resume", args.job_path or args.sweep_id or args.pattern]
    given += [f"--jobs-dir={args.jobs_dir}"] if args.jobs_dir else []
    retry = args.retry_on_error or args.retry_by_default
    given += [f"--retry-on-error={one}" for one in retry]
    given += ["--only-failed"] if args.only_failed else []
    given += ["--siren-run-mode=dry-run"] if args.dry_run else []
    given += slurm_args(args)
    given += [f"--set={one}" for one in args.overrides]
    return given
