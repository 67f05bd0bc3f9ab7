"""Elements of a cluster against processes of one session: ``python -m benchmarks.cluster``.

Eight elements, by submitit's executor for this machine and on Slurm where one answers, do the same
work as ``-n 8``. ``--only`` runs single rows, ``--quick`` a small form of all; neither writes
``results_cluster.md`` unless ``--results`` names a file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import machine
from benchmarks.folders import temporary
from benchmarks.peers import siren
from benchmarks.processes import Command, FailedError, Finished, execute, python_path
from benchmarks.report import Report, Target, deliver, say
from benchmarks.serving import Serving, serving
from benchmarks.work import Work

RESULTS = Path(__file__).resolve().parent / "results_cluster.md"
ELEMENTS = 8
LATENCY = 0.3
SLOWNESS = 10
FLIGHT = 1.25
TAIL = 0.10
ROWS = ("flight", "tail", "memory")
_UP = 0.95
"""Share of all places that is taken when all elements are up."""


@dataclass(frozen=True)
class Way:
    """How a session is distributed."""

    name: str
    options: tuple[str, ...]


PROCESSES = Way("-n 8", ("-n", str(ELEMENTS)))
LOCAL = Way(
    f"{ELEMENTS} elements, local",
    ("--siren-executor", "local", "--slurm-shards", str(ELEMENTS)),
)
SLURM = Way(
    f"{ELEMENTS} elements, Slurm",
    (
        *("--slurm", "--slurm-shards", str(ELEMENTS)),
        *("--set", "slurm.cpus_per_task=1", "--set", "slurm.mem_gb=2"),
    ),
)


@dataclass(frozen=True)
class Flight:
    """What a session took, in seconds; times are counted from its start."""

    way: str
    first: float
    """When the server received the first request."""
    up: float
    """When all processes had their windows full, nearly."""
    last: float
    """When the last answer was sent."""
    to_ideal: float
    """From ``up`` to ``last``, over the time that what was left then takes at best."""
    idle: float
    """When there was a free place for good."""
    finished: Finished
    controller_cpu: float
    """Of the process that the user started, while runs were executed."""


def ways() -> list[Way]:
    """Return the ways to distribute that there are here."""
    answers = (
        shutil.which("squeue") and not subprocess.run(["squeue"], capture_output=True).returncode
    )
    return [LOCAL, *([SLURM] if answers else [])]


def fly(way: Way, work: Work, *, slow: bool = False) -> Flight:
    """Let a session do ``work``; ``slow`` makes one of its elements ten times as slow as others.

    Raises ``FailedError``.
    """
    say(f"  {way.name}: {work.runs} runs ...")
    with (
        temporary() as name,
        serving(work.latency, work.calls, "--trace") as server,
        serving(work.latency * SLOWNESS, work.calls, "--trace") as slow_server,
    ):
        folder = Path(name)
        command = _command(folder, way, work, server, slow_server if slow else server)
        started = time.time()
        finished = execute(command)
        siren.check(folder, work, finished)
        servers = [server, slow_server]
        _check(servers, work)
        clock = json.loads((folder / "clock.json").read_text())
        flight = _flight(way, work, servers, started, finished)
        cpu = clock["loop ends"]["cpu"] - clock["loop starts"]["cpu"]
    say(f"  {way.name}: up after {flight.up:.1f} s, {flight.to_ideal:.2f} x ideal from then on")
    return replace(flight, controller_cpu=cpu)


def _command(folder: Path, way: Way, work: Work, server: Serving, slow_server: Serving) -> Command:
    command = siren.one_call(folder, work, 1, work.in_flight // ELEMENTS)
    plugins = ("-p", "benchmarks.clock", "-p", "benchmarks.slow_element")
    return replace(
        command,
        arguments=(*command.arguments, *plugins, *way.options),
        variables={
            **python_path(),
            **_slurm(),
            "BENCHMARK_CLOCK": str(folder / "clock.json"),
            "BENCHMARK_SLOW_URL": slow_server.url,
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "none",
        },
    )


def _slurm() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}


def _check(servers: Sequence[Serving], work: Work) -> None:
    answered = sum(server.stats()["answered"] for server in servers)
    if answered != work.requests:
        raise FailedError(f"unequal work: {answered} requests answered, not {work.requests}")


def _flight(
    way: Way, work: Work, servers: Sequence[Serving], started: float, finished: Finished
) -> Flight:
    """Read what the servers noted."""
    begun = sorted(at for server in servers for at, _, _ in server.trace())
    last = max(server.stats()["last_answered"] for server in servers)
    places = servers[0].stats()["most_in_flight"]
    full = [at for at, held, _ in servers[0].trace() if held >= _UP * places]
    up, idle = full[0], full[-1]
    left = sum(1 for at in begun if at > up - work.latency)
    return Flight(
        way.name,
        begun[0] - started,
        up - started,
        last - started,
        (last - up) / (left * work.latency / work.in_flight),
        idle - started,
        finished,
        0.0,
    )


def run_flight(report: Report, quick: bool) -> None:
    """Compare the time in flight, once all are up."""
    work = Work("one-call", 320 if quick else 2000, LATENCY, 64)
    say(f"flight: {work.runs} runs of {work.latency:g} s, ideal {work.ideal:.2f} s")
    flights = [fly(way, work) for way in (PROCESSES, *ways())]
    reference = flights[0].to_ideal
    for flight in flights[1:]:
        title = f"{work.runs} one-call runs of 300 ms, {flight.way}, in flight"
        note = f"-n 8: {reference:.2f} x ideal"
        report.target(Target(title, flight.to_ideal / reference, FLIGHT, "x -n 8", note))
    head = (
        *("session", "whole session", "first request after", "all up after", "per element"),
        *("x ideal from then on", "CPU of the controller per 1,000 runs"),
    )
    rows = [
        (
            flight.way,
            f"{flight.finished.wall:.1f} s",
            f"{flight.first:.1f} s",
            f"{flight.up:.1f} s",
            f"{flight.up / ELEMENTS:.2f} s",
            f"{flight.to_ideal:.2f}",
            f"{flight.controller_cpu / work.runs * 1000:.2f} s",
        )
        for flight in flights
    ]
    report.tables.append((f"{work.runs} runs of one call, {work.in_flight} in flight", head, rows))


def run_tail(report: Report, quick: bool) -> None:
    """Measure how long others wait for an element that is ten times as slow."""
    work = Work("one-call", 320 if quick else 2000, LATENCY, 16)
    say(f"tail: {work.runs} runs of {work.latency:g} s, one element ten times as slow")
    for way in ways():
        flight = fly(way, work, slow=True)
        tail = (flight.last - flight.idle) / (flight.last - flight.first)
        title = f"{work.runs} runs, one of {way.name} slowed tenfold: from the first free place on"
        note = f"{flight.last - flight.idle:.1f} s; a run of it takes {LATENCY * SLOWNESS:g} s"
        report.target(Target(title, tail, TAIL, "of the time in flight", note))


def write_scripted(folder: Path, runs: int) -> None:
    """Write ``eval_empty.yaml``: runs of a script that answers at once."""
    judged = [{"type": "contains", "value": "Done"}]
    with (folder / "tasks.jsonl").open("w") as file:
        for index in range(runs):
            task = {"id": f"task_{index}", "prompt": "Say when you are done."}
            task |= {"evaluators": judged, "ground_truth": {"output": "Done.", "calls": []}}
            file.write(json.dumps(task) + "\n")
    config = {"name": "empty", "tasks_file": "tasks.jsonl"}
    dataset = {"type": "inline", "config": config}
    siren.write_eval(folder / "eval_empty.yaml", dataset, "control:ground-truth")


def run_memory(report: Report, quick: bool) -> None:
    """Measure the memory and the CPU of the controller for many runs, which are empty."""
    runs = 2_000 if quick else 100_000
    say(f"memory: {runs} empty runs, two elements")
    with temporary() as name:
        folder = Path(name)
        write_scripted(folder, runs)
        command = siren.session(folder, "eval_empty.yaml", 1, 64)
        command = replace(
            command,
            arguments=(
                *(*command.arguments, "-p", "benchmarks.clock"),
                *("--siren-executor", "local", "--slurm-shards", "2"),
            ),
            variables={**python_path(), "BENCHMARK_CLOCK": str(folder / "clock.json")},
        )
        finished = execute(command, timeout=3000)
        if f"{runs} passed" not in finished.output:
            raise FailedError(f"not all of {runs} runs:\n{finished.output[-2000:]}")
        clock = json.loads((folder / "clock.json").read_text())
    cpu = clock["loop ends"]["cpu"] - clock["loop starts"]["cpu"]
    wall = clock["loop ends"]["wall"] - clock["loop starts"]["wall"]
    row = (
        f"{runs:,}",
        f"{wall:.0f} s",
        f"{cpu / runs * 1000:.2f} s",
        f"{clock['collection ends']['memory'] / 1e6:.0f} MB",
        f"{clock['summary ends']['memory'] / 1e6:.0f} MB",
    )
    head = (
        *("runs", "executed in", "CPU of the controller per 1,000 runs"),
        *("its memory when collected", "at the end"),
    )
    report.tables.append(("The controller, two elements on this machine", head, [row]))
    say("  " + ", ".join(row))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("--only", choices=ROWS, action="append")
    parser.add_argument("--quick", action="store_true", help="a small form of all")
    parser.add_argument("--results", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    found = machine.versions(siren.python(), siren.peer().packages)
    parts = ", ".join(f"{name} {version}" for name, version in found.items())
    report = Report("cluster", [machine.facts(), parts])
    rows = {"flight": run_flight, "tail": run_tail, "memory": run_memory}
    for name in options.only or ROWS:
        try:
            rows[name](report, options.quick)
        except FailedError as error:
            say(str(error))
            report.notes.append(f"{name}: {report.problem(error)}")
    whole = not options.only and not options.quick and not report.notes
    deliver(report, options.results or (RESULTS if whole else None))


if __name__ == "__main__":
    main()
