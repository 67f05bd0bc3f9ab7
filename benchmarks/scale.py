"""Sessions of many items, and how they grow: ``python -m benchmarks.scale``.

``--only`` runs single rows, ``--quick`` a small form of all; neither writes ``results.md`` unless
``--results`` names a file.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from benchmarks import machine, plain_project
from benchmarks.growth import Growth, above
from benchmarks.peers import siren
from benchmarks.report import RESULTS, Report, Target, deliver, say
from benchmarks.scale_sessions import Session, collect_runs, execute_empty, execute_runs

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (200, 1_000, 5_000)
RUNS_PER_TASK = 100
COLLECTION_SECONDS = 15
EMPTY_RUN_MS = 0.6
ITEM_KB = 4
GROWTH = 1.2
IMPORT_MS = 10
ROWS = ("empty", "collection", "growth", "plain-project")
HEAD = (
    *("session", "items", "collection", "run loop", "CPU of the loop", "summary"),
    *("in memory when collected", "in memory at the end"),
)


class Scale:
    """The rows; sessions that several of them need are measured once."""

    def __init__(self, report: Report, sizes: tuple[int, ...], repeats: int) -> None:
        self.report, self.sizes, self.repeats = report, sizes, repeats
        self.collected = cache(lambda items: self._session("collect", collect_runs, items))
        self.executed = cache(lambda items: self._session("execute", execute_runs, items))
        self.bare = cache(
            lambda items: self._session("items that do nothing", execute_empty, items)
        )
        self.rows: list[tuple[str, ...]] = []

    def empty(self) -> None:
        """Measure the CPU of an empty run above that of an empty item."""
        items = self.sizes[1]
        say(f"empty: {items} empty runs and {items} empty items, {self.repeats} times")
        extra = []
        for _ in range(self.repeats):
            runs = self._session("execute", execute_runs, items)
            bare = self._session("items that do nothing", execute_empty, items)
            extra.append((runs.loop_cpu - bare.loop_cpu) / items * 1e3)
        note = f"median of {self.repeats}"
        work = f"empty run, CPU above an empty pytest item, {items:,} in one process"
        self.report.target(Target(work, statistics.median(extra), EMPTY_RUN_MS, "ms", note))

    def collection(self) -> None:
        """Measure collection and the memory of collected items."""
        say(f"collection: {', '.join(map(str, self.sizes))} items")
        sessions = {items: self.collected(items) for items in self.sizes}
        first, *_, last = self.sizes
        work = f"collection of {last:,} items"
        note = "a task of its own for every item"
        self.report.target(Target(work, sessions[last].collection, COLLECTION_SECONDS, "s", note))
        work = f"memory of a collected item, {first:,} to {last:,} items"
        memory = {items: session.memory_collected for items, session in sessions.items()}
        self._memory(work, memory, note)
        self._growth("collection", {n: s.collection for n, s in sessions.items()})
        many = [
            self._session(
                f"collect, {RUNS_PER_TASK} runs a task",
                lambda items: collect_runs(items, RUNS_PER_TASK),
                items,
            )
            for items in (first, last)
        ]
        note = f"{RUNS_PER_TASK} runs a task"
        self._memory(work, {s.items: s.memory_collected for s in many}, note)

    def growth(self) -> None:
        """Measure whole sessions at all sizes."""
        say(f"growth: {', '.join(map(str, self.sizes))} empty runs and empty items")
        runs = {items: self.executed(items) for items in self.sizes}
        bare = {items: self.bare(items) for items in self.sizes}
        extra = {n: runs[n].memory_finished - bare[n].memory_finished for n in self.sizes}
        work = "memory of a finished run, above an empty pytest item"
        self._memory(work, extra, "what pytest keeps of an item itself is in both")
        self._growth("run loop, CPU", {n: s.loop_cpu for n, s in runs.items()})
        self._growth("summary", {n: s.summary for n, s in runs.items()})
        memory = {n: s.memory_finished for n, s in runs.items()}
        self._target_growth("memory at the end", above(memory, self.sizes[0]))

    def plain_project(self) -> None:
        """Measure what the plugin costs where there are no evaluations."""
        rounds = 7 if self.repeats == 1 else 25
        plain_project.say_plan(rounds)
        found = plain_project.sessions(rounds)
        work = "project without evals: CPU with the plugin above that with `-p no:siren`"
        note = (
            f"medians of {rounds}: {found.extra * 1e3:+.1f} ms; half of those without lie "
            f"within ± {found.noise * 1e3:.1f} ms"
        )
        ratio = max(found.extra, 0.0) / found.noise
        self.report.target(Target(work, ratio, 1.0, "x noise", note))
        extra = plain_project.import_time(rounds) * 1e3
        work = "project without evals: imports, `-X importtime`"
        self.report.target(Target(work, extra, IMPORT_MS, "ms", f"least of {rounds}", digits=1))

    def _session(self, name: str, measure: Callable[[int], Session], items: int) -> Session:
        session = measure(items)
        mb = (
            f"{session.memory_collected / 2**20:.0f} MB",
            f"{session.memory_finished / 2**20:.0f} MB",
        )
        seconds = (session.collection, session.loop, session.loop_cpu, session.summary)
        row = (name, f"{items:,}", *(f"{value:.2f} s" for value in seconds), *mb)
        self.rows.append(row)
        say("  " + ", ".join(f"{head} {cell}" for head, cell in zip(HEAD, row, strict=True)))
        return session

    def _memory(self, work: str, memory: Mapping[int, float], note: str) -> None:
        first, last = min(memory), max(memory)
        figure = (memory[last] - memory[first]) / (last - first) / 1024
        self.report.target(Target(work, figure, ITEM_KB, "KB", note))

    def _growth(self, name: str, figures: Mapping[int, float]) -> None:
        self._target_growth(name, Growth(figures))

    def _target_growth(self, name: str, growth: Growth) -> None:
        _, before, last = self.sizes
        work = f"growth of {name} from {before:,} to {last:,} items"
        note = f"cost of an item, to that before; exponent of the fit {growth.exponent:.2f}"
        self.report.target(Target(work, growth.last_step, GROWTH, "x linear", note))


def main() -> None:
    """Run the rows and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--only", action="append", choices=ROWS, help="run this row; repeatable")
    parser.add_argument("--quick", action="store_true", help="few items")
    parser.add_argument("--repeats", type=int, help="of the empty runs (default: 3)")
    parser.add_argument("--results", type=Path, help="file to write to")
    options = parser.parse_args()
    peer = siren.peer()
    found = machine.versions(siren.python(), peer.packages)
    parts = ", ".join(f"{name} {version}" for name, version in found.items())
    report = Report("scale", [machine.facts(), parts])
    sizes = QUICK_SIZES if options.quick else SIZES
    scale = Scale(report, sizes, options.repeats or (1 if options.quick else 3))
    for row in options.only or ROWS:
        getattr(scale, row.replace("-", "_"))()
    report.tables.append(("Sessions", HEAD, scale.rows))
    whole = not (options.only or options.quick)
    deliver(report, options.results or (RESULTS if whole else None))


if __name__ == "__main__":
    main()
