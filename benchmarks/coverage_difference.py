"""How often intervals of a difference hold: ``python -m benchmarks.coverage_difference``.

Everything is computed from a seed and takes about three minutes. ``--quick`` is a small form, which
writes nothing unless ``--results`` names a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.paired_simulation import Pair, bootstrap_coverage, coverage
from benchmarks.report import Report, say, simulation_options, write_simulation
from benchmarks.simulation import Coverage, standard_errors

RESULTS = Path(__file__).resolve().parent / "coverage_difference.md"
RATES = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5)
CHANGES = (0.0, 0.02, 0.1, 0.3)
TIMES = {20: 6_000, 100: 4_000, 1_000: 1_500}
BOOTSTRAPPED = {20: 1_000, 100: 500}
SINGLE = ((1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SEVERAL = ((0.0, 0.0), (0.1, 0.5), (0.3, 0.5), (0.3, 1.0), (1.0, 0.5), (1.0, 1.0))
ENOUGH = 10
"""Pairs expected to differ: as many as five of each outcome."""
HEADING = """\
# How often intervals of a difference hold

Written by `python -m benchmarks.coverage_difference`;
[comparison](../docs/explanation/comparison.md) tells what the figures mean.
"""


@dataclass
class Extremes:
    """The lowest and highest shares of one number of tasks and runs."""

    lowest: float = 1.0
    lowest_enough: float = 1.0
    highest_enough: float = 0.0
    cells: int = 0
    low: list[str] = field(default_factory=list)
    """Cells that are below 93 % by more than two standard errors."""
    high: list[str] = field(default_factory=list)

    def add(self, pair: Pair, found: Coverage) -> None:
        self.cells += 1
        self.lowest = min(self.lowest, found.share)
        name = f"{pair.rate:g} and {pair.change:+g}, alike {pair.alike:g}, shared {pair.shared:g}"
        if found.share + 2 * found.error < 0.93:
            self.low.append(name)
        if pair.differing >= ENOUGH:
            self.lowest_enough = min(self.lowest_enough, found.share)
            self.highest_enough = max(self.highest_enough, found.share)
            if found.share - 2 * found.error > 0.98:
                self.high.append(name)


def shown(pair: Pair, found: Coverage) -> str:
    """Return the share in per cent, emphasised when it is out of bounds for certain."""
    text, enough = f"{100 * found.share:.1f}", pair.differing >= ENOUGH
    low = found.share + 2 * found.error < 0.93
    high = found.share - 2 * found.error > 0.98 and enough
    return f"**{text}**" if low or high else text if enough else f"({text})"


def measure(report: Report, divisor: int) -> None:
    """Add a table for each number of tasks and runs, and one of their extremes."""
    summary = []
    for tasks, runs in product(TIMES, (1, 5, 10)):
        say(f"{tasks} tasks, {runs} runs")
        extremes, lines = Extremes(), []
        for row, (alike, shared) in enumerate(SINGLE if runs == 1 else SEVERAL):
            for change in CHANGES:
                line = []
                for column, rate in enumerate(RATES):
                    pair = Pair(tasks, runs, rate, change, alike, shared)
                    seeds = [tasks, runs, row, column, round(100 * change)]
                    found = coverage(np.random.default_rng(seeds), pair, TIMES[tasks] // divisor)
                    extremes.add(pair, found)
                    line.append(shown(pair, found))
                lines.append(
                    (f"{alike:g}" if runs > 1 else "-", f"{shared:g}", f"{change:g}", *line)
                )
        head = ("alike", "shared", "difference", *(f"{rate:g}" for rate in RATES))
        report.tables.append((f"{tasks:,} tasks, runs of each: {runs}", head, lines))
        summary.append(_extremes(tasks, runs, extremes))
        say(" ".join(summary[-1]))
    head = (
        *("tasks", "runs of each", "all: lowest", "ten differing expected: lowest", "highest"),
        *("below 93 %", "above 98 %"),
    )
    report.tables.insert(0, ("Extremes", head, summary))


def _extremes(tasks: int, runs: int, found: Extremes) -> tuple[str, ...]:
    shares = (found.lowest, found.lowest_enough, found.highest_enough)
    figures = (f"{100 * share:.1f}" for share in shares)
    low, high = (
        f"{len(names)} of {found.cells}" + (f" ({'; '.join(names[:3])})" if names else "")
        for names in (found.low, found.high)
    )
    return f"{tasks:,}", str(runs), *figures, low, high


def measure_bootstrap(report: Report, divisor: int) -> None:
    """Add a table of the percentile bootstrap that stands beside."""
    lines = []
    for tasks, (runs, alike) in product(BOOTSTRAPPED, ((1, 1.0), (5, 0.3))):
        for change in CHANGES[:3]:
            line = []
            for rate in RATES:
                pair = Pair(tasks, runs, rate, change, alike, 0.5)
                random = np.random.default_rng([tasks, runs, round(1000 * rate)])
                found = bootstrap_coverage(random, pair, BOOTSTRAPPED[tasks] // divisor)
                line.append(shown(pair, found))
            lines.append((f"{tasks}", f"{runs}", f"{change:g}", *line))
            say("bootstrap " + " ".join(lines[-1]))
    head = ("tasks", "runs", "difference", *(f"{rate:g}" for rate in RATES))
    report.tables.append(("Percentile bootstrap, shared 0.5, alike 0.3", head, lines))


def main() -> None:
    """Simulate, and write the section."""
    options = simulation_options(__doc__)
    report = Report(
        "coverage_difference",
        [
            "share of comparisons, in per cent, whose 95 % interval holds the true difference, by "
            "the rate of the first side; tasks' rates on either side are drawn from beta "
            "distributions whose intra-class correlation is *alike* (0: independent runs, 1: all "
            "runs of a task the same), and *shared* is the share of tasks that have the same rank "
            "of difficulty on both sides",
            "in brackets: fewer than ten pairs are expected to differ, counted in independent "
            "observations: tasks x runs x share that differs / (1 + (runs - 1) x alike)",
            "bold: below 93 % or, where ten are expected, above 98 %, by more than two standard "
            f"errors; standard errors are about {standard_errors(TIMES)}",
        ],
    )
    divisor = 20 if options.quick else 1
    measure(report, divisor)
    measure_bootstrap(report, divisor)
    write_simulation(report, options, RESULTS, HEADING)


if __name__ == "__main__":
    main()
