"""``siren rescore``: judge recorded runs again, without a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_siren.cli.arguments import add_jobs_dir
from pytest_siren.cli.conftests import ConftestError, registry_for
from pytest_siren.cli.job_lookup import found_jobs
from pytest_siren.cli.output import write_error, write_line
from pytest_siren.cli.rootdir import root_folder
from pytest_siren.datasets.agentdojo import VERSIONS
from pytest_siren.jobs.reading.job_config import RecordError
from pytest_siren.jobs.reading.read import load_config
from pytest_siren.spec.errors import SpecError
from pytest_siren.text.words import counted

if TYPE_CHECKING:
    from pytest_siren.jobs.rescoring import Rescored

OK, CHANGED, NO_ANSWER = 0, 1, 2
_MOST_SHOWN = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``siren rescore``."""
    rescore = subparsers.add_parser(
        "rescore",
        help="judge recorded runs again, without a model",
        description="Execute the recorded calls of each run again, in its environment with its "
        "planted contents, and let the evaluators of today judge what comes of it. No model is "
        "asked: verdicts of evaluators that ask one stay. The job stays as it is, the new scores "
        "make a job JOB_rescored; runs in error stay errors. Exits with 0 when every verdict is "
        "the same, 1 when some differ, 2 when a job cannot be judged.",
    )
    rescore.add_argument(
        "targets",
        nargs="+",
        metavar="JOB|SWEEP|GLOB",
        help="which jobs: name or path, id of a sweep, or glob",
    )
    rescore.add_argument(
        "--eval-file",
        metavar="FILE",
        help="judge by the dataset of this eval file, with its evaluators (default: the dataset "
        "as the job's configuration has it; code that it names is today's)",
    )
    rescore.add_argument(
        "--version",
        choices=VERSIONS,
        help="version of AgentDojo's benchmark (default: the job's)",
    )
    add_jobs_dir(rescore)
    rescore.set_defaults(run=_rescore)


def _rescore(args: argparse.Namespace) -> int:
    if args.eval_file is not None and args.version is not None:
        write_error("give --eval-file, which states the version, or --version, not both")
        return NO_ANSWER
    jobs = found_jobs(Path(args.jobs_dir), args.targets)
    if jobs is None:
        return NO_ANSWER
    codes = [_one(job, args.eval_file, args.version) for job in jobs]
    return max(codes, default=NO_ANSWER)


def _one(job: Path, eval_file: str | None, version: str | None) -> int:
    # It loads what runs are made of.
    from pytest_siren.jobs.rescoring import dataset_of_file, recorded_dataset, rescore

    root = root_folder(Path.cwd())
    try:
        registry = registry_for(_eval_files(job, root, eval_file))
        part = (
            recorded_dataset(job, root, version)
            if eval_file is None
            else dataset_of_file(Path(eval_file), registry)
        )
        done = rescore(job, part, registry, root)
    except (RecordError, ConftestError, SpecError, ValueError, LookupError, ImportError) as error:
        write_error(f"{job}: {error}")
        return NO_ANSWER
    for problem in done.problems:
        write_error(problem)
    for line in _report(done):
        write_line(line)
    if done.problems:
        return NO_ANSWER
    return CHANGED if done.changes else OK


def _eval_files(job: Path, root: Path, given: str | None) -> list[Path]:
    """Return the eval file whose conftest.py may have components."""
    if given is not None:
        return [Path(given)]
    recorded = str(load_config(job).values.get("eval_file") or "").partition("::")[0]
    return [root / recorded] if recorded else []


def _report(done: Rescored) -> Iterator[str]:
    parts = [
        f"{done.scored:,} scored",
        counted(done.errors, "error"),
        f"{counted(done.successes, 'attack success', 'attack successes')}",
        f"{len(done.changes):,} changed",
    ]
    yield f"{done.job}: {', '.join(parts)}"
    yield from (f"  {change}" for change in done.changes[:_MOST_SHOWN])
    if len(done.changes) > _MOST_SHOWN:
        yield f"  and {len(done.changes) - _MOST_SHOWN:,} more"
    if done.differing:
        yield f"  in {counted(done.differing, 'run')} a tool returned another text than recorded"
