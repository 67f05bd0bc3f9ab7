"""The same work with pytest-siren and its peers: ``python -m benchmarks.throughput``.

``--only`` runs single rows, ``--quick`` a small form of all; neither writes ``results.md`` unless
``--results`` names a file.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cpu, machine
from benchmarks.contest import Entry, Result, contend
from benchmarks.peers import Peer, inspect_ai, plain_pytest, prompt_siren, siren
from benchmarks.processes import FailedError
from benchmarks.report import RESULTS, Report, Target, deliver, say
from benchmarks.work import ALL_COUPLES, INJECTION_TASKS, Work, couples, one_call

ONE_CALL_LIMITS = (1.05, 1.15, 1.15)
COUPLES_LIMITS = {"prompt-siren": (0.30, 0.20), "inspect-ai": (0.09, 0.06)}
CPU_LIMIT = 1.25
_ONE_AFTER_THE_OTHER = ("rampart", "pytest-asyncio")
ROWS = ("one-call", "couples", "cpu")


class Contest:
    """All entries for one kind of work, and what they took."""

    def __init__(self, report: Report, work: Work, small: Work, repeats: int) -> None:
        self.report, self.work, self.small, self.repeats = report, work, small, repeats
        self.results: dict[str, Result] = {}
        self.problems: dict[str, str] = {}

    def enter(self, peer: Peer) -> None:
        """Let ``peer`` do the work, or note why it does not."""
        if peer.python is None:
            self.problems[peer.name] = "not installed"
        elif self.work.name in peer.cannot:
            self.problems[peer.name] = peer.cannot[self.work.name]
        for entry in peer.entries.get(self.work.name, ()) if peer.python else ():
            self._do(entry, peer.name)
        if peer.name in self.problems:
            say(f"  {peer.name}: {self.problems[peer.name]}")

    def _do(self, entry: Entry, peer: str) -> None:
        work = self.small if peer in _ONE_AFTER_THE_OTHER else self.work
        repeats = self.repeats if peer == "pytest-siren" else 1
        try:
            results = [contend(entry, work) for _ in range(repeats)]
        except FailedError as error:
            say(f"  {entry.name}: {error}")
            self.problems[entry.name] = self.report.problem(error)
            return
        key = statistics.median_low([_order(result) for result in results])
        self.results[entry.name] = next(result for result in results if _order(result) == key)

    def rows(self, reference: str) -> list[tuple[str, ...]]:
        """Return the table's rows; times are compared with those of ``reference``."""
        first = self.results.get(reference)
        rows = []
        for name, result in self.results.items():
            same = first is not None and first.work == result.work
            rows.append(
                (
                    name,
                    f"{result.work.runs}",
                    f"{result.work.requests}",
                    f"{result.wall:.1f} s",
                    f"{result.cpu:.1f} s",
                    f"{result.in_flight:.1f} s",
                    f"{result.most_in_flight}",
                    f"{result.to_ideal:.2f}",
                    f"{result.wall / first.wall:.2f}" if first and same else "",
                )
            )
        return rows + [(name, text, *[""] * 7) for name, text in self.problems.items()]


HEAD = (
    *("harness", "runs", "requests", "whole process", "CPU", "first request to last answer"),
    *("most in flight", "x ideal after start-up", "x pytest-siren, one process (whole process)"),
)


def _order(result: Result) -> float:
    return result.in_flight if result.work.name == "one-call" else result.wall


def run_one_call(report: Report, peers: Sequence[Peer], quick: bool, repeats: int) -> None:
    """Measure runs of one call."""
    work = one_call(256 if quick else 2000)
    say(f"one-call: {work.runs} runs of {work.latency:g} s, ideal {work.ideal:.2f} s")
    contest = Contest(report, work, one_call(40), repeats)
    for peer in peers:
        contest.enter(peer)
    entries = peers[0].entries["one-call"]
    for entry, limit in zip(entries, ONE_CALL_LIMITS, strict=True):
        result = contest.results.get(entry.name)
        name = f"{work.runs} one-call runs of 300 ms, {entry.name.removeprefix('pytest-siren, ')}"
        figure = result.to_ideal if result else None
        note = contest.problems.get(entry.name, f"ideal {work.ideal:.2f} s")
        report.target(Target(name, figure, limit, "x ideal", note))
    rounds = -(-work.runs // work.in_flight) * work.latency
    report.tables.append(("Runs of one call", HEAD, contest.rows(entries[0].name)))
    report.notes.append(
        f"One call: {work.runs} runs are {rounds / work.latency:g} rounds of {work.in_flight} at "
        f"best, which is {rounds / work.ideal:.3f} x ideal."
    )


def run_couples(report: Report, peers: Sequence[Peer], quick: bool, repeats: int) -> None:
    """Measure AgentDojo's couples."""
    work = couples(4 * INJECTION_TASKS if quick else ALL_COUPLES)
    say(f"couples: {work.runs} couples of 3 calls of {work.latency:g} s, ideal {work.ideal:.2f} s")
    contest = Contest(report, work, work, repeats)
    for peer in peers:
        contest.enter(peer)
    for peer_name, limits in COUPLES_LIMITS.items():
        for entry, limit in zip(peers[0].entries["couples"], limits, strict=True):
            shape = entry.name.removeprefix("pytest-siren, ")
            ours, theirs = contest.results.get(entry.name), contest.results.get(peer_name)
            report.target(
                Target(
                    f"{work.runs} AgentDojo couples x 3 calls, {shape}, whole process",
                    ours.wall / theirs.wall if ours and theirs else None,
                    limit,
                    f"x {peer_name}",
                    contest.problems.get(entry.name) or contest.problems.get(peer_name, ""),
                )
            )
    first = peers[0].entries["couples"][0].name
    report.tables.append(("AgentDojo, workspace, template_string", HEAD, contest.rows(first)))


def run_cpu(report: Report, peers: Sequence[Peer], quick: bool, repeats: int) -> None:
    """Measure CPU per model request."""
    runs = 8 * INJECTION_TASKS if quick else ALL_COUPLES
    say(f"cpu: {runs} couples x 3 calls with 24 tools, and as many bare requests")
    work = "CPU per model request, 24 tools, 64 in flight, one process"
    unit = "x bare pydantic-ai"
    try:
        cost = cpu.measure(runs, repeats)
    except FailedError as error:
        report.target(Target(work, None, CPU_LIMIT, unit, report.problem(error)))
        return
    ours, bare = (statistics.median(figures) * 1e3 for figures in (cost.siren, cost.bare))
    note = f"{ours:.2f} ms; bare {bare:.2f} ms; median of {repeats}"
    report.target(Target(work, cost.ratio, CPU_LIMIT, unit, note))


def main() -> None:
    """Run the rows and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("--only", action="append", choices=ROWS, help="run this row; repeatable")
    parser.add_argument("--quick", action="store_true", help="a small form of the work")
    parser.add_argument("--repeats", type=int, help="of pytest-siren's rows (default: 3)")
    parser.add_argument("--peers", default=None, help="names, with commas (default: all)")
    parser.add_argument("--results", type=Path, help="file to write to")
    options = parser.parse_args()
    every = [siren.peer(), prompt_siren.peer(), inspect_ai.peer(), *plain_pytest.peers()]
    wanted = None if options.peers is None else options.peers.split(",")
    peers = [every[0], *[peer for peer in every[1:] if wanted is None or peer.name in wanted]]
    repeats = options.repeats or (1 if options.quick else 3)
    report = Report("throughput", _facts(peers))
    report.notes.append(
        f"pytest-siren's rows are the median of {repeats} sessions; its peers ran once each."
    )
    for row in options.only or ROWS:
        {"one-call": run_one_call, "couples": run_couples, "cpu": run_cpu}[row](
            report, peers, options.quick, repeats
        )
    whole = not (options.only or options.quick or wanted is not None)
    deliver(report, options.results or (RESULTS if whole else None))


def _facts(peers: Sequence[Peer]) -> list[str]:
    lines = [machine.facts()]
    for peer in peers:
        if peer.python is None:
            lines.append(f"{peer.name}: not installed")
            continue
        found = machine.versions(peer.python, peer.packages)
        parts = ", ".join(f"{name} {version}" for name, version in found.items())
        lines.append(f"{peer.name}: {parts}. Settings: {peer.settings}.")
    for line in lines:
        say(line)
    return lines


if __name__ == "__main__":
    main()
