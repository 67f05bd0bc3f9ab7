"""``siren resume-sweep``: prompt-siren's command, which pytest's own ``--resume`` carries out."""

from __future__ import annotations

import argparse
import subprocess
import sys


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren resume-sweep``."""
    resume = subparsers.add_parser(
        "resume-sweep",
        help="go on with a sweep: the same as pytest --resume",
        description="Go on with all jobs of a sweep, or with those whose names match a pattern. "
        "Runs pytest --resume, and exits as it does.",
    )
    target = resume.add_mutually_exclusive_group(required=True)
    target.add_argument("-s", "--sweep-id", metavar="ID", help="the sweep's id")
    target.add_argument("-p", "--pattern", metavar="GLOB", help="glob over names of jobs")
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
    resume.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as --set of pytest")
    resume.set_defaults(run=_resume)


def _resume(args: argparse.Namespace) -> int:
    return subprocess.call([sys.executable, "-m", "pytest", *pytest_args(args)])


def pytest_args(args: argparse.Namespace) -> list[str]:
    """Return the arguments of pytest that do the same."""
    given = ["--resume", args.sweep_id or args.pattern]
    given += [f"--jobs-dir={args.jobs_dir}"] if args.jobs_dir else []
    given += [f"--retry-on-error={one}" for one in args.retry_on_error]
    given += ["--only-failed"] if args.only_failed else []
    given += ["--collect-only"] if args.dry_run else []
    given += [f"--set={one}" for one in args.overrides]
    return given
