"""``siren results`` over a million recorded runs: ``python -m benchmarks.results``.

``--quick`` takes fewer runs and writes no results unless ``--results`` names a file; ``--jobs DIR``
keeps the recorded jobs there, and takes them from there the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.growth import above
from benchmarks.processes import Command, Finished, execute
from benchmarks.recorded import RUNS_PER_JOB, write_jobs
from benchmarks.report import Report, Target, deliver, say
from benchmarks.serving import ROOT
from benchmarks.summary import summary_seconds

RESULTS = Path(__file__).resolve().parent / "results_scale.md"
SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000, 100_000)
SECONDS = 8.0
GIGABYTES = 2.0
GROWTH = 1.2
SUMMARY_RUNS = 100_000
SUMMARY_SECONDS = 2.0
GROUPINGS = ("all", "attack", "malicious_task", "vector")


def measure(report: Report, folder: Path, sizes: tuple[int, ...], repeats: int) -> None:
    """Measure ``siren results`` at each of ``sizes``, and the summary of a session."""
    rows: list[tuple[str, ...]] = []
    best: dict[int, Finished] = {}
    for runs in sizes:
        jobs = folder / str(runs)
        if not jobs.exists():
            started = time.perf_counter()
            write_jobs(jobs, runs)
            say(f"{runs:,} runs written in {time.perf_counter() - started:.1f} s")
        for grouping in GROUPINGS if runs == sizes[-1] else GROUPINGS[:1]:
            found = min(
                (_results(jobs, runs, grouping) for _ in range(repeats)), key=lambda one: one.wall
            )
            if grouping == "all":
                best[runs] = found
            memory = f"{found.peak_memory / 2**20:.0f} MB"
            rows.append(
                (f"{runs:,}", grouping, f"{found.wall:.2f} s", f"{found.cpu:.2f} s", memory)
            )
            say("  " + ", ".join(rows[-1]))
    last = best[sizes[-1]]
    note = f"{-(-sizes[-1] // RUNS_PER_JOB)} jobs; best of {repeats}"
    work = f"siren results over {sizes[-1]:,} recorded runs"
    report.target(Target(work, last.wall, SECONDS, "s", f"{note}; {last.cpu:.1f} s of CPU"))
    report.target(Target(f"{work}, peak memory", last.peak_memory / 2**30, GIGABYTES, "GB", note))
    # Above the smallest, for most of its time is spent on imports.
    growth = above({runs: found.cpu for runs, found in best.items()}, sizes[0])
    work = f"growth of CPU from {sizes[-2]:,} to {sizes[-1]:,} runs"
    note = f"cost of a run above those of {sizes[0]:,} runs, to that before"
    report.target(Target(work, growth.last_step, GROWTH, "x linear", note))
    seconds = min(summary_seconds(SUMMARY_RUNS) for _ in range(repeats))
    work = f"terminal summary of a session of {SUMMARY_RUNS:,} runs"
    report.target(Target(work, seconds, SUMMARY_SECONDS, "s", "the table, drawn"))
    head = ("runs", "grouped by", "wall time", "CPU", "peak memory")
    report.tables.append(("siren results", head, rows))


def _results(jobs: Path, runs: int, grouping: str) -> Finished:
    arguments = (
        *(sys.executable, "-m", "pytest_siren", "results", "--format=json"),
        *(f"--jobs-dir={jobs}", f"--group-by={grouping}"),
    )
    command = Command(arguments, jobs, {"PYTHONPATH": str(ROOT / "src")})
    found = execute(command)
    told = sum(row["n_scored"] + row["n_errors"] for row in json.loads(found.output))
    if grouping != "vector" and told != runs:
        raise SystemExit(f"siren results tells of {told:,} runs, not of {runs:,}")
    return found


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement (default: 3)")
    parser.add_argument("--jobs", type=Path, help="folder of the recorded jobs")
    parser.add_argument("--results", type=Path, help="file to write to")
    options = parser.parse_args()
    packages = ("msgspec", "numpy", "pandas")
    found = machine.versions(Path(sys.executable), packages)
    parts = ", ".join(f"{name} {version}" for name, version in found.items())
    load = f"{os.getloadavg()[0]:.1f} other processes wanted to run when it began"
    report = Report("results", [machine.facts(), parts, load])
    sizes = QUICK_SIZES if options.quick else SIZES
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        measure(report, options.jobs or Path(temporary), sizes, options.repeats)
    deliver(report, options.results or (None if options.quick else RESULTS))


if __name__ == "__main__":
    main()
