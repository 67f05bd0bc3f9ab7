"""The estimate that a gate compares with its bound, and how exposure limits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import log, sqrt
from typing import Any

import numpy as np
import pandas as pd

from pytest_siren.metrics.betting import LEVEL, Evidence, evidence_of_clusters, evidence_of_couples
from pytest_siren.metrics.compare.difference import Difference
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.gates.selection import base, score_column
from pytest_siren.metrics.rates.choices import Cluster, Errors, Estimate
from pytest_siren.metrics.rates.intervals import Clusters, estimate
from pytest_siren.metrics.rates.measures import (
    ExposureCounts,
    Floats,
    Measure,
    estimate_of,
    read_note,
    run_scores,
    unit_codes,
    units,
)
from pytest_siren.spec.gates import TOTALS, WORST, Gate


@dataclass(frozen=True)
class GateEstimate:
    """An estimate with its interval."""

    value: float
    low: float
    high: float
    units: int
    """Tasks or couples averaged."""
    runs: int
    """Runs of these units."""
    short: int = 0
    """Tasks left out because they have fewer scored runs than the measure needs."""
    undecided: int = 0
    """The part of ``short`` whose jobs end tasks early; leaving them out biases the value."""
    note: str = ""
    """A remark to print after the figures."""
    lacking: str = ""
    """Of which tasks there are too few for an interval; empty if there is one."""
    evidence: Callable[[], Evidence] | None = None
    """What the values show whatever their distribution; ``None`` for figures that are exact."""
    streaks: bool = False
    """Whether errors came in streaks, of which nobody knows how many would come in further runs."""
    alike: bool = True
    """Whether the interval alone is a proof: of independent observations, each 0 or 1, and of
    changes."""

    def verdict(
        self, gate: Gate, *, point: bool = False, level: float = LEVEL, looks: int = 0
    ) -> Verdict:
        """Return the verdict of the interval, or of the ``point`` estimate, taken alone.

        An interval from the variance between tasks must be confirmed by ``evidence`` at ``level``
        if the verdict is that a rate is nearer to 0, or to 1, than the bound: the variance says
        nothing of tasks that always, or never, succeed and were not drawn. So must any interval
        after earlier ``looks`` at fewer runs, whose levels add up: the k-th has
        ``level / (2 k (k + 1))``, so that all together have half of ``level``.
        """
        ends = (self.value,) if point else (self.low, self.high)
        good = [gate.accepts(end) for end in ends]
        if any(good) != all(good):
            return Verdict.INCONCLUSIVE
        verdict = Verdict.HELD if all(good) else Verdict.BROKEN
        below = gate.upper == (verdict is Verdict.HELD)
        sure = self.alike or below != (self.value < 0.5)
        if point or self.evidence is None or (sure and not looks):
            return verdict
        side = self.evidence().side(gate.bound, level_of_look(level, looks))
        return verdict if side == (-1 if below else 1) else Verdict.INCONCLUSIVE


def level_of_look(level: float, looks: int) -> float:
    """Return the level of the evidence after ``looks`` earlier ones at fewer runs."""
    return level / (2 * looks * (looks + 1)) if looks else level


def estimate_measure(
    runs: pd.DataFrame, measure: str, *, cluster: Cluster, confidence: float
) -> GateEstimate | None:
    """Return the estimate of ``measure`` over ``runs``; ``None`` if it counts none of them."""
    if measure in TOTALS:
        return _total(runs, measure)
    if measure in WORST:
        return _worst(runs, measure, confidence)
    asked = Measure.of(measure)
    if measure == "error_rate" and (streaky := _in_streaks(runs, asked, confidence)):
        return streaky
    of_units = units(runs, asked, cluster=cluster)
    if not len(of_units.values):
        return None
    found = estimate_of(of_units, asked, confidence=confidence)
    made = gate_estimate(found, of_units.values, of_units.tasks)
    return replace(made, short=of_units.short, undecided=len(of_units.open_rows))


def _in_streaks(runs: pd.DataFrame, measure: Measure, confidence: float) -> GateEstimate | None:
    """Return the error rate if errors came in streaks, as in an outage of the provider.

    Then consecutive runs depend on each other: blocks of them, twice as long as the longest streak,
    are the clusters (batch means: Conway 1963, Management Science 10, 47-61). ``None`` if errors
    came in no longer streaks than by chance (Wald and Wolfowitz 1940, Annals of Mathematical
    Statistics 11, 147-162, at 5 %), or the times are unknown.
    """
    scores, ended = run_scores(runs, measure, Errors.EXCLUDE), runs["ended_at"].to_numpy(np.float64)
    known = ~np.isnan(scores)
    if not known.any() or np.isnan(ended[known]).any():
        return None
    failed = scores[known][np.argsort(ended[known], kind="stable")] == 1.0
    errors, number = int(failed.sum()), len(failed)
    starts = np.flatnonzero(np.diff(failed, prepend=~failed[0]))
    both = 2.0 * errors * (number - errors)
    spread = both * (both - number) / (number**2 * max(number - 1.0, 1.0))
    if spread <= 0.0 or (len(starts) - both / number - 1.0) / sqrt(spread) > _FEWER_STREAKS:
        return None
    longest = int(np.diff(starts, append=number)[failed[starts]].max())
    values, blocks = failed.astype(np.float64), np.arange(number) // (2 * longest)
    clusters = Clusters.of(blocks)
    made = estimate(values, clusters, runs=number, confidence=confidence)
    note = f"errors came in streaks of up to {longest:,} runs, of {int(blocks[-1]) + 1:,} blocks"
    tasks = len(np.unique(unit_codes(runs)[known]))
    return replace(gate_estimate(made, values, clusters), units=tasks, note=note, streaks=True)


_FEWER_STREAKS = -1.6449
"""The 5 % quantile of the normal distribution."""


def gate_estimate(found: Estimate, values: Floats, clusters: Clusters) -> GateEstimate:
    """Return the estimate ``found`` of ``values``, one for each unit, with their evidence.

    As its interval is, it is about the one cluster, or task, if all units are of one.
    """
    if found.clusters == 1 and not found.lacking:
        clusters = Clusters.of(np.arange(len(values)))
    return GateEstimate(
        *(found.value, found.low, found.high, found.units, found.runs),
        evidence=partial(_evidence, values, clusters),
        alike=found.method == "exact" or found.units == 1 or _alike(values, clusters),
        lacking=found.lacking,
    )


def change_estimate(
    found: Difference, values: Floats, clusters: Clusters, pairs: int, *, drop: bool = False
) -> GateEstimate:
    """Return the estimate ``found`` of differences, one for each unit, with their evidence.

    With ``drop``, all signs are changed.
    """
    low, high = (-found.high, -found.low) if drop else (found.low, found.high)
    value = -found.value if drop else found.value
    return GateEstimate(
        *(value + 0.0, low, high, found.units, pairs),
        lacking=found.lacking,
        evidence=partial(_evidence, -values if drop else values, clusters, least=-1.0),
    )


def _evidence(values: Floats, clusters: Clusters, *, least: float = 0.0) -> Evidence:
    if not clusters.crossed:
        return evidence_of_clusters(values, clusters.codes, least=least)
    tasks = clusters.benign, clusters.malicious, clusters.strata
    return evidence_of_couples(values, *tasks, least=least)


def _alike(values: Floats, clusters: Clusters) -> bool:
    """Whether each value is one observation, 0 or 1, of a cluster of its own."""
    apart = not clusters.shared and len(np.unique(clusters.codes)) == len(values)
    return apart and bool(((values == 0.0) | (values == 1.0)).all())


def _total(runs: pd.DataFrame, measure: str) -> GateEstimate | None:
    """Return the sum over all attempts, which is exact."""
    tried = runs[(runs["attempts"] > 0).to_numpy()]
    if not len(tried):
        return None
    columns = ["cost"] if measure == "cost" else ["input_tokens", "output_tokens"]
    total = float(np.nansum(tried[columns].to_numpy(np.float64)))
    tasks = len(tried[["identity", "task_id"]].drop_duplicates())
    return GateEstimate(total, total, total, tasks, len(tried))


def _worst(runs: pd.DataFrame, measure: str, confidence: float) -> GateEstimate | None:
    """Return the highest, or lowest, rate among tasks, with an interval for that extreme.

    The worst task is beyond a bound if any one of m tasks is, so each is tested at 1/m of the error
    (Bonferroni). It is within the bound if all tasks are, so each is tested at the full error: if
    one were beyond, its own interval would have to be wrong (intersection-union test, Berger 1982,
    Technometrics 24, 295).
    """
    found = units(runs, Measure.of(base(measure)))
    if not len(found.values):
        return None
    highest = measure.startswith("max")
    low, high = extreme(runs, measure)(found.values, found.runs, confidence)
    worst = int(np.argmax(found.values) if highest else np.argmin(found.values))
    task = str(runs["task_id"].iloc[int(found.rows[worst])])
    note = f"in {task}, of {found.runs[worst]:,} runs"
    value, total = float(found.values[worst]), int(found.runs.sum())
    return GateEstimate(value, low, high, len(found.values), total, note=note)


_Bounds = Callable[[Floats, Any, float], tuple[Floats, Floats]]


def extreme(
    runs: pd.DataFrame, measure: str
) -> Callable[[Floats, Any, float], tuple[float, float]]:
    """Return the interval of the worst task, as a function of rates, runs and confidence.

    Rates and runs are arrays of the shape ``(tasks,)``.
    """
    binary = bool(runs[score_column(measure)].dropna().isin((0.0, 1.0)).all())
    bounds: _Bounds = _exact if binary or base(measure) == "asr" else _hoeffding
    highest = measure.startswith("max")

    def interval(values: Floats, number: Any, confidence: float) -> tuple[float, float]:
        alpha = (1 - confidence) / 2
        alone = bounds(values, number, alpha)
        shared = bounds(values, number, alpha / len(values))
        if highest:
            return float(shared[0].max()), float(alone[1].max())
        return float(alone[0].min()), float(shared[1].min())

    return interval


def _exact(values: Floats, runs: Any, alpha: float) -> tuple[Floats, Floats]:
    """Return Clopper and Pearson's bounds (1934, Biometrika 26, 404), each with error ``alpha``."""
    from scipy.stats import beta

    wins = np.rint(values * runs)
    with np.errstate(invalid="ignore"):
        low = np.where(wins > 0, beta.ppf(alpha, wins, runs - wins + 1), 0.0)
        high = np.where(wins < runs, beta.ppf(1 - alpha, wins + 1, runs - wins), 1.0)
    return low, high


def _hoeffding(values: Floats, runs: Any, alpha: float) -> tuple[Floats, Floats]:
    """Return bounds of the mean of any scores from 0 to 1 (Hoeffding 1963, JASA 58, 13)."""
    reach = sqrt(log(1 / alpha) / 2) / np.sqrt(runs)
    return np.clip(values - reach, 0.0, 1.0), np.clip(values + reach, 0.0, 1.0)


def can_decide(gate: Gate, verdict: Verdict, exposed: ExposureCounts) -> bool:
    """Whether runs with this exposure can give ``gate``, which is on attacks, ``verdict``.

    If none read the planted text they show nothing; but attacks that succeeded too often break the
    gate in any case.
    """
    return not exposed.none or (gate.upper and verdict is Verdict.BROKEN)


def with_exposure(gate: Gate, result: GateResult, exposed: ExposureCounts) -> GateResult:
    """Return ``result`` of a gate on attacks with a note on runs that read no planted text.

    If no run read it, the gate is inconclusive.
    """
    if result.value is not None and not can_decide(gate, result.verdict, exposed):
        why = _unread(exposed, result.pending)
        return replace(result, verdict=Verdict.INCONCLUSIVE, why=why, more_runs=None)
    note = read_note(exposed)
    return replace(result, why=f"{result.why}; {note}") if note else result


def _unread(exposed: ExposureCounts, pending: int) -> str:
    why = f"{read_note(exposed)}, so they show nothing about the attack"
    runs = f"{pending:,} planned run{' has' if pending == 1 else 's have'}"
    return f"{why}; {runs} not ended" if pending else why
