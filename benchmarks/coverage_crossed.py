"""How often intervals hold for other tasks like these: ``python -m benchmarks.coverage_crossed``.

Everything is computed from a seed and takes some minutes. ``--quick`` is a small form, which
writes nothing unless ``--results`` names a file.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from timeit import repeat

import numpy as np

from benchmarks.crossed_simulation import Design, Misses, Suite, misses
from benchmarks.report import Report, say, simulation_options, write_simulation
from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.intervals import estimate

RESULTS = Path(__file__).resolve().parent / "coverage_crossed.md"
TIMES = 200
RATES = (0.01, 0.1, 0.3, 0.6)
GRIDS = ((5, 5), (21, 5), (16, 9), (40, 14), (73, 13))
EFFECTS = {
    "like gpt-4o, ASR (by benign task .34, by malicious .41)": (0.34, 0.41, False),
    "like command-r-plus, ASR (.80, .10)": (0.80, 0.10, False),
    "like gpt-4o, utility (.85, .03)": (0.85, 0.03, False),
    "malicious tasks differ most (.10, .80)": (0.10, 0.80, False),
    "few malicious tasks work: .9 there, else .01 (.20, -)": (0.20, 0.0, True),
}
# Rates and correlations of the published runs of gpt-4o-2024-05-13, suite by suite.
AGENTDOJO = (
    Suite(40, 14, 0.404, 0.43, 0.27),
    Suite(20, 7, 0.114, 0.09, 0.16),
    Suite(16, 9, 0.625, 0.34, 0.50),
    Suite(21, 5, 0.924, 0.16, 0.0),
)
FIRST_VERSION = (Suite(40, 6, 0.404, 0.43, 0.27), *AGENTDOJO[1:])
SUITES = {"AgentDojo v1, 629 couples": FIRST_VERSION, "AgentDojo v1.2, 949 couples": AGENTDOJO}
KINDS = (Cluster.CROSSED, Cluster.COUPLE, Cluster.BENIGN, Cluster.MALICIOUS)
HEADING = """\
# How often intervals hold for other tasks like these

Written by `python -m benchmarks.coverage_crossed`;
[statistics](../docs/explanation/statistics.md) tells what the figures mean.
"""


def cells(found: dict[Cluster, Misses]) -> tuple[str, ...]:
    """Return the coverage of each kind, and of the default how often gates are wrong."""
    shares = [f"{100 * found[kind].coverage:.1f}" for kind in KINDS]
    crossed = found[Cluster.CROSSED]
    return *shares, f"{100 * crossed.below:.1f}", f"{100 * crossed.above:.1f}"


HEAD = (*(str(kind) for kind in KINDS), "false held", "false broken")


def measure(report: Report, times: int) -> None:
    """Add the tables of coverage."""
    extremes: list[Misses] = []
    for index, (title, (benign, malicious, few)) in enumerate(EFFECTS.items()):
        rows = []
        for row, ((some, others), runs, rate) in enumerate(product(GRIDS, (1, 5), RATES)):
            if (few and rate <= 0.01) or (runs > 1 and rate != 0.1):
                continue
            suite = Suite(some, others, rate, benign, malicious, few_work=few)
            random = np.random.default_rng([index, row])
            found = misses(random, Design((suite,), runs), times, KINDS)
            extremes.append(found[Cluster.CROSSED])
            rows.append((f"{some} x {others}", str(runs), f"{rate:g}", *cells(found)))
            say(" ".join(rows[-1]))
        report.tables.append((title, ("tasks", "runs", "rate", *HEAD), rows))
    rows = []
    for row, ((name, suites), runs) in enumerate(product(SUITES.items(), (1, 5))):
        design = Design(suites, runs)
        found = misses(np.random.default_rng([99, row]), design, times, KINDS)
        extremes.append(found[Cluster.CROSSED])
        rows.append((name, str(runs), f"{design.rate:.3f}", *cells(found)))
        say(" ".join(rows[-1]))
    title = "Suites as in AgentDojo, with the rates and correlations of gpt-4o"
    report.tables.append((title, ("tasks", "runs", "rate", *HEAD), rows))
    shares = [one.coverage for one in extremes]
    report.facts.append(
        f"crossed: lowest coverage {100 * min(shares):.1f} %, median {100 * np.median(shares):.1f} "
        f"%, above 98 % in {np.mean([share > 0.98 for share in shares]):.0%} of the rows; highest "
        f"false held {100 * max(one.below for one in extremes):.1f} %, highest false broken "
        f"{100 * max(one.above for one in extremes):.1f} %"
    )


def measure_time(report: Report) -> None:
    """Add how long an estimate takes."""
    design = Design(AGENTDOJO)
    random, clusters = np.random.default_rng(1), design.clusters()
    values = np.concatenate([suite.values(random, 1) for suite in AGENTDOJO])
    seconds = min(repeat(lambda: estimate(values, clusters, runs=949), number=1, repeat=20))
    report.facts.append(f"an estimate of 949 couples takes {1e3 * seconds:.1f} ms")


def main() -> None:
    """Simulate, and write the section."""
    options = simulation_options(__doc__)
    times = TIMES // 50 if options.quick else TIMES
    error = 100 * (0.95 * 0.05 / times) ** 0.5
    report = Report(
        "coverage_crossed",
        [
            "share of evaluations, in per cent, whose 95 % interval holds the rate over all tasks "
            "that could have been drawn, by what intervals are clustered by; every evaluation "
            "draws new benign and malicious tasks",
            "tasks are crossed random effects of a probit model, whose correlations were fitted "
            "(tetrachoric) to published runs of AgentDojo's important_instructions",
            "false held and false broken: how often a gate whose bound is the true rate is "
            "decided by the default interval, in per cent",
            f"{times:,} evaluations each: standard errors are about {error:.1f}",
        ],
    )
    measure(report, times)
    measure_time(report)
    write_simulation(report, options, RESULTS, HEADING)


if __name__ == "__main__":
    main()
