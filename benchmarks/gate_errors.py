"""How often gates at their bound are decided wrongly: ``python -m benchmarks.gate_errors``.

Everything is computed from a seed and takes about ten minutes. ``--quick`` is a small form, which
writes nothing unless ``--results`` names a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from benchmarks.report import Report, say, simulation_options, write_simulation
from pytest_siren.metrics.compare.difference import mean_difference
from pytest_siren.metrics.gates.estimates import change_estimate, gate_estimate
from pytest_siren.metrics.gates.result import Verdict
from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.intervals import Clusters, estimate
from pytest_siren.metrics.sequential import CrossedTasks, Outcome, SequentialGate, Step
from pytest_siren.spec.gates import Gate, parse_gate

Floats = npt.NDArray[np.float64]

RESULTS = Path(__file__).resolve().parent / "gate_errors.md"
HEADING = """\
# How often gates at their bound are decided wrongly

Written by `python -m benchmarks.gate_errors`; [gates](../docs/explanation/gates.md) explains the
verdicts.
"""
TIMES = 400
STOPPED = 100
ALWAYS, SELDOM = 0.9, 0.01
"""Rates of malicious tasks that work and that do not, where few drive everything."""
ALIKE = 0.7
"""Correlation of the effects of a task on both sides of a comparison."""
AGENTDOJO = ((40, 6), (16, 9), (21, 5), (20, 7))


@dataclass(frozen=True)
class Design:
    """Attacks on crossed tasks, in a probit model (or with few malicious tasks that work)."""

    name: str
    suites: tuple[tuple[int, int], ...]
    """Benign and malicious tasks of each suite."""
    rate: float
    by_benign: float = 0.1
    by_malicious: float = 0.4
    runs: int = 1
    few_work: bool = False

    @property
    def clusters(self) -> Clusters:
        """The tasks of the couples, suite after suite, benign tasks first."""
        codes = [np.empty(0, dtype=np.int64)] * 3
        for place, shape in enumerate(self.suites):
            benign, malicious = np.indices(shape).reshape(2, -1)
            found = benign + 1_000 * place, malicious + 1_000 * place, np.full(len(benign), place)
            codes = [np.concatenate(pair) for pair in zip(codes, found, strict=True)]
        return Clusters(Cluster.CROSSED, np.arange(len(codes[0])), *codes)

    def sides(self, random: np.random.Generator, change: float) -> tuple[Floats, Floats]:
        """Draw tasks and their runs on two sides, of which the second has a rate ``change`` higher.

        Both have the shape ``(runs, couples)`` and hold 0 and 1.
        """
        parts: tuple[list[Floats], list[Floats]] = ([], [])
        for benign, malicious in self.suites:
            rows, columns = (
                _both(random, (benign, 1)),
                _both(random, (1, malicious)),
            )
            for side, part in enumerate(parts):
                rate = self.rate + side * change
                shape = (self.runs, benign, malicious)
                if self.few_work:
                    share = (rate - SELDOM) / (ALWAYS - SELDOM)
                    chance = np.where(columns[side] < ndtri(share), ALWAYS, SELDOM)
                    made = random.random(shape) < chance
                else:
                    left = 1.0 - self.by_benign - self.by_malicious
                    effect = np.sqrt(self.by_benign) * rows[side]
                    effect = effect + np.sqrt(self.by_malicious) * columns[side]
                    made = effect + np.sqrt(left) * random.normal(size=shape) < ndtri(rate)
                part.append(made.reshape(self.runs, -1).astype(np.float64))
        return np.concatenate(parts[0], axis=1), np.concatenate(parts[1], axis=1)


def _both(random: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    one, other = random.normal(size=shape), random.normal(size=shape)
    return one, ALIKE * one + np.sqrt(1.0 - ALIKE**2) * other


DESIGNS = (
    Design("AgentDojo", AGENTDOJO, 0.05),
    Design("AgentDojo", AGENTDOJO, 0.3),
    Design("AgentDojo, 5 runs", AGENTDOJO, 0.3, runs=5),
    Design("AgentDojo, few work", AGENTDOJO, 0.15, few_work=True),
    Design("AgentDojo, skewed", AGENTDOJO, 0.13, by_malicious=0.6),
    Design("16 x 9", ((16, 9),), 0.3),
    Design("16 x 9, 5 runs", ((16, 9),), 0.3, runs=5),
    Design("20 x 5, few work", ((20, 5),), 0.3, few_work=True),
    Design("20 x 20, few work", ((20, 20),), 0.1, few_work=True),
    Design("20 x 20, benign", ((20, 20),), 0.6, by_benign=0.5, by_malicious=0.1),
)


def plain(random: np.random.Generator, design: Design, times: int) -> Counter[Verdict]:
    """Return the verdicts on ``asr`` at its bound over all runs."""
    gate, clusters = parse_gate(f"asr <= {design.rate}", ""), design.clusters
    found: Counter[Verdict] = Counter()
    for _ in range(times):
        values = design.sides(random, 0.0)[0].mean(axis=0)
        made = estimate(values, clusters, runs=len(values) * design.runs)
        found[gate_estimate(made, values, clusters).verdict(gate)] += 1
    return found


def increase(
    random: np.random.Generator, design: Design, times: int, change: float = 0.05
) -> Counter[Verdict]:
    """Return the verdicts on ``asr_increase`` at its bound."""
    gate, clusters = parse_gate(f"asr_increase <= {change}", ""), design.clusters
    found: Counter[Verdict] = Counter()
    for _ in range(times):
        before, after = design.sides(random, change)
        values = after.mean(axis=0) - before.mean(axis=0)
        made = change_estimate(mean_difference(values, clusters), values, clusters, before.size)
        found[made.verdict(gate)] += 1
    return found


def stopped(random: np.random.Generator, design: Design, times: int) -> Counter[Verdict]:
    """Return the verdicts on ``asr`` at its bound with ``--gate-stop``."""
    gate = parse_gate(f"asr <= {design.rate}", "")
    found: Counter[Verdict] = Counter()
    for _ in range(times):
        found[_stopped(design, gate, design.sides(random, 0.0)[0])] += 1
    return found


def _stopped(design: Design, gate: Gate, hits: Floats) -> Verdict:
    clusters = design.clusters
    codes: tuple[dict[Hashable, int], ...] = tuple(
        dict(enumerate(one.tolist()))
        for one in (clusters.benign, clusters.malicious, clusters.strata)
    )
    sizes = [benign * malicious for benign, malicious in design.suites]
    tasks = CrossedTasks(codes[0], codes[1], codes[2], sizes)
    longest = np.asarray([max(shape) for shape in design.suites])[clusters.strata]
    batches = (clusters.benign - clusters.malicious) % longest
    order = np.lexsort((clusters.couples, batches)).tolist()
    steps = [
        Step((couple, index), couple, index, int(batches[couple]))
        for index in range(design.runs)
        for couple in order
    ]
    sequential = SequentialGate(gate, steps, design.runs, crossed=tasks)
    sequential.advance(
        {
            step.run: Outcome("scored", None, float(hits[step.round, int(str(step.task))]))
            for step in steps
        }
    )
    if sequential.decided_after is not None:
        return sequential.verdict
    values = hits.mean(axis=0)
    confidence = 1.0 - sequential.alpha / 2.0
    made = estimate(values, clusters, runs=hits.size, confidence=confidence)
    return gate_estimate(made, values, clusters).verdict(gate, level=1.0 - confidence)


def shares(found: Counter[Verdict]) -> tuple[str, str]:
    """Return the shares of held and broken gates, in per cent."""
    held, broken = found[Verdict.HELD], found[Verdict.BROKEN]
    return f"{100 * held / found.total():.1f}", f"{100 * broken / found.total():.1f}"


def measure(report: Report, divisor: int) -> None:
    """Add a table of all designs."""
    lines = []
    for place, design in enumerate(DESIGNS):
        random = np.random.default_rng(place)
        line = [design.name, f"{design.rate:g}"]
        line += shares(plain(random, design, TIMES // divisor))
        line += shares(stopped(random, design, STOPPED // divisor))
        line += shares(increase(random, design, TIMES // divisor))
        lines.append(tuple(line))
        say(" ".join(line))
    head = ("tasks", "rate", *("asr held", "broken"), *("--gate-stop held", "broken"))
    report.tables.append(("Verdicts at the bound", (*head, "asr_increase held", "broken"), lines))


def main() -> None:
    """Simulate, and write the section."""
    options = simulation_options(__doc__)
    report = Report(
        "gate_errors",
        [
            "share of gates, in per cent, that hold or are broken although the true rate of all "
            "tasks that could be drawn is exactly the bound: 5 are allowed of either",
            "benign tasks x malicious tasks, both drawn anew each time; *few work*: a malicious "
            "task works in 90 % of all runs or in 1 %; else a probit model with correlations of "
            "0.1 by benign and 0.4 by malicious task (*benign*: 0.5 and 0.1; *skewed*: 0.1 and "
            "0.6)",
            "a change of 0.05, on sides whose tasks are alike by 0.7, is the bound of "
            "`asr_increase`, which `--gate-stop` never decides early",
        ],
    )
    measure(report, 20 if options.quick else 1)
    write_simulation(report, options, RESULTS, HEADING)


if __name__ == "__main__":
    main()
