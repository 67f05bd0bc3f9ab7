"""A provider that refuses and fails for a while: ``python -m benchmarks.recovery``.

AgentDojo's couples against a server that for some seconds answers 30 % of the requests with 429
and ``Retry-After: 1``, 3 % with 500, and cuts the connection of 2 %; and against one whose quota
is used up in mid-session. ``--quick`` takes fewer runs; it writes no results unless ``--results``
names a file.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.course import BACK, WINDOW, Course, Sampled, Throughput
from benchmarks.folders import temporary
from benchmarks.inflight import InFlight
from benchmarks.peers import siren
from benchmarks.processes import Command, FailedError, Finished, execute
from benchmarks.report import Report, Target, deliver, say
from benchmarks.serving import ROOT, Serving, serving
from benchmarks.work import ALL_COUPLES, Work, couples

RESULTS = Path(__file__).resolve().parent / "results_recovery.md"
FAULTS = "--faults=429=0.3,500=0.03,reset=0.02"
SHAPES = ((1, 64), (2, 32))
REQUESTS = 1.3
RECOVERY_SECONDS = 5.0
QUOTA_SECONDS = 2.0
QUOTA_FROM = 2.0


@dataclass(frozen=True)
class Case:
    """``repeats`` of each couple with calls of ``latency`` seconds, and when there are faults."""

    latency: float
    repeats: int
    faults_from: float
    faults_for: float

    @property
    def work(self) -> Work:
        calls = couples(ALL_COUPLES).calls
        return Work("couples", ALL_COUPLES * self.repeats, self.latency, 64, calls)

    @property
    def name(self) -> str:
        each = f"{self.repeats} x " if self.repeats > 1 else ""
        return f"{each}{ALL_COUPLES} couples x 3 calls of {1000 * self.latency:g} ms"

    @property
    def cpu_bound(self) -> bool:
        """Whether answers come faster than two cores take them."""
        return self.latency < 0.3

    @property
    def faults_until(self) -> float:
        return self.faults_from + self.faults_for

    def options(self) -> tuple[str, ...]:
        """Return the server's."""
        return (
            *("--trace", "--retry-after=1", FAULTS),
            *(f"--faults-from={self.faults_from}", f"--faults-for={self.faults_for}"),
        )


CASES = (Case(0.1, 2, 4.0, 4.0), Case(1.0, 1, 5.0, 5.0))
"""The first is bound by the CPU, so that its throughput tells of the machine's other work too."""
QUICK_CASES = (Case(0.1, 1, 1.5, 1.5),)


def shape_name(processes: int, concurrency: int) -> str:
    """Return the shape as a user types it."""
    shape = "one process" if processes == 1 else f"-n {processes}"
    return f"{shape}, --concurrency {concurrency}"


def command(folder: Path, server: Serving, repeats: int, shape: tuple[int, int]) -> Command:
    """Write the eval file, and return the session on it."""
    config = {"suite_name": "workspace", "version": "v1.2.2"}
    dataset: dict[str, object] = {"type": "agentdojo", "config": config}
    siren.write_eval(folder / "eval_couples.yaml", dataset, siren.MODEL, repeats)
    # Hypothesis is there for the project's own tests alone, and loads itself when a session ends.
    more = ("--attack", "template_string", "-p", "no:hypothesispytest")
    made = siren.session(folder, "eval_couples.yaml", *shape, *more)
    variables = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"}
    variables |= {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
    return Command(made.arguments, folder, variables, made.good_codes | {2})


def with_faults(report: Report, case: Case, shape: tuple[int, int]) -> tuple[str, ...]:
    """Measure a session, add its targets, and return its row of the table."""
    work, name = case.work, f"{case.name}, {shape_name(*shape)}"
    say(f"{name}: {work.requests} requests, faults from {case.faults_from:g} s")
    with temporary() as place, serving(case.latency, work.calls, *case.options()) as server:
        folder = Path(place)
        with InFlight(folder, siren.MODEL) as watch:
            finished = execute(command(folder, server, case.repeats, shape), watch=watch)
        stats, noted = server.stats(), server.trace()
        siren.check(folder, work, finished)
    if stats["answered"] != work.requests:
        raise FailedError(f"{stats['answered']} requests were answered, not {work.requests}")
    first = stats["first_received"]
    rate = Throughput([at - first for at, _, fault in noted if not fault], case.latency)
    held = Sampled([(at - first, number) for at, number in watch.samples])
    throughput, in_flight = (
        Course(mean, case.faults_from, case.faults_until, rate.tail) for mean in (rate, held)
    )
    faults = sum(stats["faults"].values())
    note = f"{work.runs} of {work.runs} runs scored; {faults} requests met a fault"
    figure = stats["requests"] / work.requests
    report.target(Target(f"{name}: requests", figure, REQUESTS, "x needed", note))
    by, what = ("requests in flight", in_flight) if case.cpu_bound else ("throughput", throughput)
    note = f"until a second at {BACK:.0%} of the undisturbed {by} is over"
    report.target(Target(f"{name}: recovery", what.recovery, RECOVERY_SECONDS, "s", note))
    return row(case, shape, finished, throughput, in_flight)


HEAD = (
    *("calls", "shape", "whole process", "CPU"),
    *("answers a second: before the faults, during, after", "recovery"),
    *("requests in flight: before, during, after", "recovery"),
)


def row(
    case: Case, shape: tuple[int, int], finished: Finished, *courses: Course
) -> tuple[str, ...]:
    """Return a row under ``HEAD``."""
    cells = [f"{1000 * case.latency:g} ms", shape_name(*shape)]
    cells += [f"{finished.wall:.1f} s", f"{finished.cpu:.1f} s"]
    for course in courses:
        means = (course.before, course.during, course.after)
        cells.append(", ".join(f"{mean:.0f}" for mean in means))
        recovery = course.recovery
        cells.append("none" if recovery is None else f"{recovery:.1f} s")
    return tuple(cells)


def without_quota(report: Report, shape: tuple[int, int]) -> None:
    """Measure how a session ends whose quota is used up after some seconds."""
    name = f"quota exhausted, {shape_name(*shape)}"
    work = couples(ALL_COUPLES)
    options = ("--trace", "--faults=quota=1", f"--faults-from={QUOTA_FROM}")
    with temporary() as place, serving(work.latency, work.calls, *options) as server:
        finished = execute(command(Path(place), server, 1, shape))
        ended = time.time()
        noted = sorted(server.trace())
    first = min((at for at, _, fault in noted if fault), default=None)
    if first is None:
        raise FailedError(f"the session ended before the quota did:\n{finished.output[-3000:]}")
    in_flight = next(number for at, number, fault in noted if fault)
    later = sum(at > first for at, _, _ in noted)
    messages = finished.output.count(f"model '{siren.MODEL}':")
    if not messages:
        raise FailedError(f"the session does not say why it ended:\n{finished.output[-3000:]}")
    note = f"from the first such answer until the process is gone; {in_flight} were in flight"
    report.target(Target(f"{name}: end", ended - first, QUOTA_SECONDS, "s", note))
    report.target(Target(f"{name}: messages", messages, 1, "message", digits=0))
    note = "as many as may be in flight"
    report.target(Target(f"{name}: requests sent after it", later, 64, "requests", note, digits=0))


def measure(report: Report, cases: tuple[Case, ...]) -> None:
    """Measure all."""
    rows = []
    for case in cases:
        for shape in SHAPES:
            rows.append(with_faults(report, case, shape))
            say("  " + ", ".join(rows[-1]))
    for shape in SHAPES:
        without_quota(report, shape)
    report.tables.append(("Before, during and after the faults", HEAD, rows))
    for case in cases:
        report.notes.append(
            f"Calls of {1000 * case.latency:g} ms: the server fails from {case.faults_from:g} s to "
            f"{case.faults_until:g} s after the first request, and the ideal is "
            f"{case.work.in_flight / case.latency:g} answers a second."
        )
    report.notes.append(
        f"A recovery ends with the first second whose mean is {BACK:.0%} of what it is without "
        f"faults, so that it is {WINDOW:g} s at least. Requests in flight are the session's own "
        "count, with those that wait for this machine's CPU."
    )


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--results", type=Path, help="file to write to")
    options = parser.parse_args()
    packages = ("pytest", "pytest-xdist", "pydantic-ai-slim", "openai", "httpx2", "agentdojo")
    found = machine.versions(siren.python(), packages)
    parts = ", ".join(f"{name} {version}" for name, version in found.items())
    load = f"{os.getloadavg()[0]:.1f} other processes wanted to run when it began"
    report = Report("recovery", [machine.facts(), parts, load])
    measure(report, QUICK_CASES if options.quick else CASES)
    deliver(report, options.results or (None if options.quick else RESULTS))


if __name__ == "__main__":
    main()
