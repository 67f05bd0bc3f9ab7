"""How many runs or tasks would decide an inconclusive gate, by simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pytest_siren.metrics.compare.difference import mean_difference
from pytest_siren.metrics.gates.baseline import change_counts
from pytest_siren.metrics.gates.estimates import GateEstimate, extreme
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
from pytest_siren.spec.gates import CHANGES, WORST, Gate

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
    question = _question(gate, runs, settings)
    return question.required() if question is not None else None


def _question(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation | None:
    if gate.measure in CHANGES:
        return _of_change(gate, runs, settings)
    if gate.measure in WORST:
        return _of_worst(gate, runs, settings.confidence)
    return _of_rate(gate, runs, settings)


def _of_rate(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation:
    measure = Measure.of(gate.measure)

    def interval(counts: OutcomeCounts, against: bool) -> tuple[float, float]:
        number = counts.scored
        sums = counts.sums if measure.k == 1 else counts.successes().astype(np.float64)
        if against:
            number, sums = number + counts.lacking, sums + gate.bad_score * counts.lacking
        enough = number >= measure.k
        number, sums = number[enough], sums[enough]
        if not len(number):
            return 0.0, 1.0
        values = sums / number if measure.k == 1 else pass_at_k_of_units(number, sums, measure)
        made = estimate(
            np.clip(values, 0.0, 1.0),
            counts.tasks.take(enough),
            runs=int(number.sum()),
            k=measure.k,
            confidence=settings.confidence,
        )
        return made.low, made.high

    return GateSimulation(gate, _counts(runs, gate, settings.cluster), interval)


def _of_worst(gate: Gate, runs: pd.DataFrame, confidence: float) -> GateSimulation:
    made = extreme(runs, gate.measure)

    def interval(counts: OutcomeCounts, against: bool) -> tuple[float, float]:
        number, sums = counts.scored, counts.sums
        if against:
            number, sums = number + counts.lacking, sums + gate.bad_score * counts.lacking
        known = number > 0
        return made(sums[known] / number[known], number[known], confidence)

    counts = _counts(runs, gate, Cluster.COUPLE)
    return GateSimulation(gate, counts, interval, others=False, own_rates=True)


def _of_change(gate: Gate, runs: pd.DataFrame, settings: GateSettings) -> GateSimulation | None:
    assert settings.baseline is not None
    counts = change_counts(runs, gate, settings.baseline, settings.cluster)
    if counts is None:
        return None

    def interval(counts: OutcomeCounts, against: bool) -> tuple[float, float]:
        values = counts.sums / counts.scored
        made = mean_difference(values, counts.clusters, confidence=settings.confidence)
        return made.low, made.high

    return GateSimulation(gate, counts, interval, paired=True)


def _counts(runs: pd.DataFrame, gate: Gate, cluster: Cluster) -> OutcomeCounts:
    scores = run_scores(runs, Measure.of(base(gate.measure)), Errors.EXCLUDE)
    part = ~np.isnan(scores) | unscored(runs, gate.measure)
    return OutcomeCounts.of(scores[part], unit_codes(runs)[part], clusters_of(runs[part], cluster))
