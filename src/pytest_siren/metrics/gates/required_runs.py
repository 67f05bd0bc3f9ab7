"""How many runs or tasks would decide an inconclusive gate, by simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pytest_siren.metrics.compare.difference import mean_difference
from pytest_siren.metrics.gates.baseline import change_counts
from pytest_siren.metrics.gates.estimates import (
    GateEstimate,
    change_estimate,
    extreme,
    gate_estimate,
)
from pytest_siren.metrics.gates.result import Verdict
from pytest_siren.metrics.gates.selection import base, unscored
from pytest_siren.metrics.rates.choices import Cluster, Errors
from pytest_siren.metrics.rates.intervals import estimate
from pytest_siren.metrics.rates.measures import (
    Measure,
    clusters_of,
    decided_by,
    pass_at_k_of_units,
    run_scores,
    unit_codes,
)
from pytest_siren.metrics.sample_size import GateSimulation, OutcomeCounts, RequiredRuns
from pytest_siren.spec.gates import ALARMS, CHANGES, STAGES, WORST, Gate

if TYPE_CHECKING:
    from pytest_siren.metrics.gates.baseline import GateSettings


def required(
    gate: Gate, found: GateEstimate, runs: pd.DataFrame, settings: GateSettings
) -> RequiredRuns | None:
    """Return the runs or tasks that would decide ``gate``, which ``found`` does not decide.

    ``None`` if that is not computed: tasks have ended early, or pairs lack a score.
    """
    changes = gate.measure in CHANGES
    if abs(found.value - gate.bound) < 1e-9 or (changes and found.low <= -1 and found.high >= 1):
        return RequiredRuns(paired=changes)
    if decided_by(runs, Measure.of(base(gate.measure))).any():
        return None
    if gate.measure in (*STAGES, *ALARMS):
        # Not every further run would count, nor are all of its values rates.
        return None
    question = _question(gate, runs, settings)
    return question.required() if question is not None else None


def _question(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation | None:
    if gate.measure in CHANGES:
        return _of_change(gate, runs, settings)
    if gate.measure in WORST:
        return _of_worst(gate, runs, settings)
    return _of_rate(gate, runs, settings)


def _of_rate(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation:
    measure = Measure.of(gate.measure)

    def judge(counts: OutcomeCounts, missing: float | None) -> bool | None:
        number = counts.scored
        sums = counts.sums if measure.k == 1 else counts.successes().astype(np.float64)
        if missing is not None:
            number, sums = number + counts.lacking, sums + missing * counts.lacking
        enough = number >= measure.k
        number, sums = number[enough], sums[enough]
        if not len(number):
            return None
        values = sums / number if measure.k == 1 else pass_at_k_of_units(number, sums, measure)
        values, clusters = np.clip(values, 0.0, 1.0), counts.tasks.take(enough)
        made = estimate(
            values, clusters, runs=int(number.sum()), k=measure.k, confidence=settings.confidence
        )
        return _holds(gate, gate_estimate(made, values, clusters), settings)

    return GateSimulation(gate, _counts(runs, gate, settings.cluster), judge)


def _holds(gate: Gate, found: GateEstimate, settings: GateSettings) -> bool | None:
    verdict = found.verdict(gate, level=settings.level, looks=settings.looks)
    return None if verdict is Verdict.INCONCLUSIVE else verdict is Verdict.HELD


def _of_worst(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation:
    made = extreme(runs, gate.measure)

    def judge(counts: OutcomeCounts, missing: float | None) -> bool | None:
        number, sums = counts.scored, counts.sums
        if missing is not None:
            number, sums = number + counts.lacking, sums + missing * counts.lacking
        known = number > 0
        ends = made(sums[known] / number[known], number[known], settings.confidence)
        return _holds(gate, GateEstimate(ends[0], *ends, 0, 0), settings)

    counts = _counts(runs, gate, Cluster.COUPLE)
    return GateSimulation(gate, counts, judge, others=False, own_rates=True)


def _of_change(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation | None:
    assert settings.baseline is not None
    counts = change_counts(runs, gate, settings.baseline, settings.cluster)
    if counts is None:
        return None

    def judge(counts: OutcomeCounts, missing: float | None) -> bool | None:
        values = counts.sums / counts.scored
        made = mean_difference(values, counts.tasks, confidence=settings.confidence)
        found = change_estimate(made, values, counts.tasks, int(counts.scored.sum()))
        return _holds(gate, found, settings)

    return GateSimulation(gate, counts, judge, paired=True)


def _counts(runs: pd.DataFrame, gate: Gate, cluster: Cluster) -> OutcomeCounts:
    measure = Measure.of(base(gate.measure))
    scores = run_scores(runs, measure, Errors.EXCLUDE)
    part = ~np.isnan(scores) | unscored(runs, gate.measure)
    tasks = clusters_of(runs[part], measure, cluster)
    return OutcomeCounts.of(scores[part], unit_codes(runs)[part], tasks.simplest())
