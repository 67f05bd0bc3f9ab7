"""How often intervals hold, and what stopping early costs: ``python -m benchmarks.coverage``.

Everything is computed from a seed and takes some minutes. ``--quick`` is a small form, which writes
nothing unless ``--results`` names a file.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.report import Report, say, simulation_options, write_simulation
from benchmarks.simulation import Cell, Coverage, coverage, standard_errors, stopped_gate

RESULTS = Path(__file__).resolve().parent / "coverage.md"
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
TIMES = {20: 10_000, 100: 8_000, 1_000: 4_000}
ALIKE = (0.0, 0.1, 0.3, 0.7, 1.0)
GATES = (
    (Cell(629, 1, 0.3), 0.1),
    (Cell(629, 1, 0.3), 0.25),
    (Cell(100, 5, 0.3, 0.0), 0.1),
    (Cell(100, 5, 0.3, 0.3), 0.1),
    (Cell(100, 5, 0.3, 1.0), 0.1),
    (Cell(629, 1, 0.02), 0.1),
    (Cell(629, 1, 0.1), 0.1),
    (Cell(100, 5, 0.1, 0.3), 0.1),
    (Cell(100, 5, 0.1, 1.0), 0.1),
)
HEADING = """\
# How often intervals hold

Written by `python -m benchmarks.coverage`; [statistics](../docs/explanation/statistics.md) tells
what the figures mean.
"""
GATE_HEAD = (
    *("couples x runs", "ASR", "alike", "gate", "share of runs taken", "wrong or false alarm"),
    "not settled",
)


def kinds() -> list[tuple[str, list[tuple[int, int, float, int]]]]:
    """Return tables: a title, and for each row tasks, runs, alikeness and couples of a task."""
    tables = []
    for tasks in TIMES:
        rows = [(tasks, 1, 0.0, 1)]
        rows += [(tasks, runs, alike, 1) for runs, alike in product((5, 10), ALIKE)]
        tables.append((f"{tasks:,} tasks", rows))
    rows = [(tasks, 1, alike, 5) for tasks, alike in product((20, 100), ALIKE)]
    tables.append(("Clusters of five couples of one task, one run each", rows))
    return tables


def shown(cell: Cell, found: Coverage) -> str:
    """Return the share in per cent, emphasised when it is out of bounds for certain."""
    text = f"{100 * found.share:.1f}"
    certain = 2 * found.error
    low = found.share + certain < 0.93
    high = found.share - certain > 0.98 and cell.fewer >= 5
    # Where fewer than five of the rarer outcome are expected, an interval cannot help but hold.
    return f"**{text}**" if low or high else text if cell.fewer >= 5 else f"({text})"


def measure_coverage(report: Report, divisor: int) -> None:
    """Add the tables of coverage."""
    lowest, highest, highest_runs = 1.0, 0.0, 0.0
    for index, (title, rows) in enumerate(kinds()):
        say(title)
        lines = []
        for row, (tasks, runs, alike, couples) in enumerate(rows):
            line = []
            for column, rate in enumerate(RATES):
                cell = Cell(tasks, runs, rate, alike, couples)
                random = np.random.default_rng([index, row, column])
                found = coverage(random, cell, TIMES[tasks] // divisor)
                lowest = min(lowest, found.share)
                highest = max(highest, found.share if cell.fewer >= 5 else 0.0)
                if cell.fewer_runs >= 5:
                    highest_runs = max(highest_runs, found.share)
                line.append(shown(cell, found))
            lines.append((str(runs), f"{alike:g}" if runs * couples > 1 else "-", *line))
            say(" ".join(lines[-1]))
        head = ("runs", "alike", *(f"{rate:g}" for rate in RATES))
        report.tables.append((title, head, lines))
    report.facts.append(
        f"lowest share of all: {100 * lowest:.1f} %; highest where five or more of each outcome "
        f"are expected: {100 * highest:.1f} %; highest where five or more are if runs are counted, "
        f"however alike: {100 * highest_runs:.1f} %"
    )


def measure_gates(report: Report, seeds: int) -> None:
    """Add the table of gates that are looked at all the time."""
    say("gates")
    rows = []
    for cell, bound in GATES:
        made = [stopped_gate(np.random.default_rng(seed), cell, bound) for seed in range(seeds)]
        total = cell.tasks * cell.runs
        wrong = [
            one.verdict is not None and (cell.rate == bound or one.verdict != (cell.rate < bound))
            for one in made
        ]
        rows.append(
            (
                f"{cell.tasks} x {cell.runs}",
                f"{cell.rate:g}",
                f"{cell.alike:g}" if cell.runs > 1 else "-",
                f"asr <= {bound:g}",
                f"{100 * np.mean([one.runs for one in made]) / total:.1f} %",
                f"{100 * np.mean(wrong):.1f} %",
                f"{100 * np.mean([one.verdict is None for one in made]):.1f} %",
            )
        )
        say(" ".join(rows[-1]))
    title = f"A gate looked at after every fourth run, {seeds:,} seeds"
    report.tables.append((title, GATE_HEAD, rows))


def main() -> None:
    """Simulate, and write the section."""
    options = simulation_options(__doc__)
    report = Report(
        "coverage",
        [
            "share of evaluations, in per cent, whose 95 % interval holds the true rate, by that "
            "rate; tasks' rates are drawn from a beta distribution whose intra-class correlation "
            "is *alike* (0: independent runs, 1: all runs of a task the same)",
            "in brackets: fewer than five of the rarer outcome are expected, counted in independent"
            " observations: tasks x runs x rate / (1 + (runs - 1) x alike)",
            "bold: below 93 % or, where five are expected, above 98 %, by more than two standard "
            f"errors; standard errors are about {standard_errors(TIMES)}",
        ],
    )
    measure_coverage(report, 20 if options.quick else 1)
    measure_gates(report, 50 if options.quick else 1_000)
    write_simulation(report, options, RESULTS, HEADING)


if __name__ == "__main__":
    main()
