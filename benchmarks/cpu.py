"""CPU per model request: of a run of pytest-siren, and of bare pydantic-ai with the same tools."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.folders import temporary
from benchmarks.peers import siren
from benchmarks.processes import Command, FailedError, execute, python_path
from benchmarks.report import say
from benchmarks.serving import Serving, serving
from benchmarks.work import INJECTION_TASKS, Work, couples

SMALL = 4 * INJECTION_TASKS


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU per model request; one figure per repetition."""

    siren: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """pytest-siren's over bare, of the medians."""
        return statistics.median(self.siren) / statistics.median(self.bare)


def measure(runs: int, repeats: int) -> Cost:
    """Measure both in turns. What sessions do once is taken off by a session of fewer runs."""
    ours, bare = [], []
    for number in range(repeats):
        say(f"  CPU per request, {number + 1} of {repeats} ...")
        bare.append(_bare(couples(runs)))
        small, large = couples(SMALL), couples(runs)
        difference = loop_cpu(large) - loop_cpu(small)
        ours.append(difference / (large.requests - small.requests))
        say(f"  pytest-siren {ours[-1] * 1e3:.2f} ms, bare {bare[-1] * 1e3:.2f} ms")
    return Cost(tuple(ours), tuple(bare))


def loop_cpu(work: Work) -> float:
    """Return the seconds of CPU of a session's run loop, in one process."""
    with (
        temporary() as name,
        serving(work.latency, work.calls) as server,
    ):
        folder = Path(name)
        command = siren.couples(folder, work, processes=1, concurrency=work.in_flight)
        arguments = (*command.arguments, "-p", "benchmarks.clock")
        variables = {**_variables(server), "BENCHMARK_CLOCK": str(folder / "clock.json")}
        finished = execute(Command(arguments, folder, variables, command.good_codes))
        _check(server, work)
        siren.check(folder, work, finished)
        marks = json.loads((folder / "clock.json").read_text())
    cpu: float = marks["loop ends"]["cpu"] - marks["loop starts"]["cpu"]
    return cpu


def _bare(work: Work) -> float:
    with serving(work.latency, work.calls) as server:
        numbers = (str(work.runs), str(work.in_flight))
        arguments = (str(siren.python()), "-m", "benchmarks.bare", *numbers)
        finished = execute(Command(arguments, Path.cwd(), _variables(server)))
    told = json.loads(finished.output.splitlines()[-1])
    if told["requests"] != work.requests:
        raise FailedError(f"{told['requests']} bare requests, not {work.requests}")
    cpu: float = told["cpu_per_request"]
    return cpu


def _variables(server: Serving) -> dict[str, str]:
    return {**python_path(), "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"}


def _check(server: Serving, work: Work) -> None:
    if (answered := server.stats()["answered"]) != work.requests:
        raise FailedError(f"{answered} requests answered, not {work.requests}")
