"""Evaluates gates: each is held, broken, or inconclusive if the runs do not decide it.

A gate holds only if its whole interval is on the good side of the bound, every planned run has
ended, and it would still hold if each run without a score were counted against it. So missing data
never make a gate hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from pytest_siren.metrics.gates import explanations as words
from pytest_siren.metrics.gates.baseline import (
    GateSettings,
    estimate_change,
    incomparable,
    unmatched,
)
from pytest_siren.metrics.gates.estimates import GateEstimate, estimate_measure, with_exposure
from pytest_siren.metrics.gates.explanations import required_runs_text
from pytest_siren.metrics.gates.required_runs import required
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.gates.selection import (
    PENDING,
    Counts,
    Mask,
    applies_to,
    base,
    concatenated,
    counted_runs,
    in_group,
    known_values,
    runs_of_jobs,
    score_column,
    unknown_scores,
    unscored,
    with_scores,
)
from pytest_siren.metrics.rates.choices import Unexposed
from pytest_siren.metrics.rates.measures import (
    Measure,
    count_exposed,
    decided_by,
    finishes,
    spoken,
    unexposed_as_unknown,
)
from pytest_siren.spec.gates import CHANGES, TOTALS, Gate


def evaluate(
    gates: Iterable[Gate],
    runs: pd.DataFrame,
    *,
    pending: pd.DataFrame | None = None,
    settings: GateSettings | None = None,
) -> list[GateResult]:
    """Return the result of each gate.

    ``runs`` is a table of ``metrics/frame.py``. ``pending`` is another with a row for each planned
    run without an attempt, with the status ``pending``.
    """
    table = runs if pending is None else concatenated(runs, pending)
    settings = settings or GateSettings()
    return [_evaluate(gate, table, settings) for gate in gates]


def _evaluate(gate: Gate, table: pd.DataFrame, settings: GateSettings) -> GateResult:
    of_gate = runs_of_jobs(table, gate)
    chosen = of_gate[in_group(of_gate, gate.group)]
    if not len(chosen):
        return _result(
            gate, Verdict.INCONCLUSIVE, None, Counts(0, 0, 0, 0), _missing(gate, of_gate)
        )
    chosen = counted_runs(chosen[applies_to(chosen, gate.measure)], gate.measure)
    if score_column(gate.measure) != "attack_score":
        return _evaluate_runs(gate, chosen, settings)
    exposed = count_exposed(chosen)
    # More runs that do not read the planted text would decide nothing.
    settings = replace(settings, advice=settings.advice and not exposed.none)
    if settings.unexposed is Unexposed.UNKNOWN:
        chosen = unexposed_as_unknown(chosen)
    return with_exposure(gate, _evaluate_runs(gate, chosen, settings), exposed)


def _evaluate_runs(gate: Gate, chosen: pd.DataFrame, settings: GateSettings) -> GateResult:
    """Evaluate ``gate`` over ``chosen``, the runs that it applies to."""
    counts, pending = _counted(chosen, gate.measure)
    over = chosen[~pending]
    found = _find(gate, over, settings)
    if found is None:
        why = _nothing(gate, over, counts, settings)
        return _result(gate, Verdict.INCONCLUSIVE, None, counts, why)
    verdict = _side(gate, found, settings)
    if verdict is Verdict.HELD:
        doubt = _doubt(gate, found, over, counts, settings)
    elif verdict is Verdict.BROKEN and settings.point and (counts.pending or found.undecided):
        doubt = _way_out(gate, chosen, pending, settings)
    elif verdict is Verdict.INCONCLUSIVE:
        return _undecided(gate, found, over, counts, settings)
    else:
        doubt = None
    if doubt is not None:
        return _result(gate, Verdict.INCONCLUSIVE, found, counts, doubt)
    return _result(
        gate, verdict, found, counts, words.why_decided(gate, found, verdict, settings.point)
    )


def _undecided(
    gate: Gate, found: GateEstimate, over: pd.DataFrame, counts: Counts, settings: GateSettings
) -> GateResult:
    """Return the result for an interval that contains the bound."""
    why = words.why_across(gate, found, counts)
    asked = settings.advice and not counts.pending
    need = required(gate, found, over, settings) if asked else None
    if need is not None:
        why = f"{why}; {required_runs_text(need, gate, found)}"
    result = _result(gate, Verdict.INCONCLUSIVE, found, counts, why)
    return replace(result, more_runs=need.runs if need else None)


def _missing(gate: Gate, runs: pd.DataFrame) -> str:
    """Return which key of the gate's group matches no run."""
    for key, value in gate.group:
        if not in_group(runs, [(key, value)]).any():
            return words.no_such(key, value, known_values(runs, key))
    return words.no_runs(gate)


def _nothing(gate: Gate, over: pd.DataFrame, counts: Counts, settings: GateSettings) -> str:
    """Return why there is no estimate."""
    if gate.measure in CHANGES and counts.scored:
        if settings.baseline is None:
            return words.no_baseline(gate)
        return incomparable(over, gate, settings.baseline)
    return words.nothing_scored(gate, counts)


def _counted(runs: pd.DataFrame, measure: str) -> tuple[Counts, Mask]:
    """Return the counts, and for each run whether it has not ended."""
    errors = (runs["status"] == "error").to_numpy(bool)
    pending = runs["status"].isin((PENDING, "cancelled")).to_numpy(bool)
    unknown = unknown_scores(runs, measure)
    scored = ~(errors | pending | unknown)
    answers = ", ".join(spoken(finishes(runs[unknown])))
    made = [int(np.count_nonzero(one)) for one in (scored, errors, unknown, pending)]
    return Counts(made[0], made[1], made[2], made[3], answers), pending


def _find(
    gate: Gate, runs: pd.DataFrame, settings: GateSettings, *, worst: bool = False
) -> GateEstimate | None:
    cluster, confidence, baseline = settings.cluster, settings.confidence, settings.baseline
    if gate.measure not in CHANGES:
        return estimate_measure(runs, gate.measure, cluster=cluster, confidence=confidence)
    if baseline is None:
        return None
    return estimate_change(
        runs, gate, baseline, cluster=cluster, confidence=confidence, worst=worst
    )


def _side(gate: Gate, found: GateEstimate, settings: GateSettings) -> Verdict:
    """Return the verdict of the interval, or of the point estimate, taken alone."""
    ends = (found.value,) if settings.point else (found.low, found.high)
    good = [gate.accepts(end) for end in ends]
    if all(good):
        return Verdict.HELD
    return Verdict.INCONCLUSIVE if any(good) else Verdict.BROKEN


def _doubt(
    gate: Gate,
    found: GateEstimate,
    over: pd.DataFrame,
    counts: Counts,
    settings: GateSettings,
) -> str | None:
    """Return why a gate does not hold whose scored runs alone would make it hold, or ``None``."""
    if counts.pending:
        return words.why_unfinished(counts)
    if gate.measure in TOTALS:
        unpriced = int(over["unpriced"].sum()) if gate.measure == "cost" else 0
        return words.unpriced(unpriced, over) if unpriced else None
    baseline = settings.baseline if gate.measure in CHANGES else None
    if baseline and (problem := unmatched(over, gate, baseline)):
        return problem
    lacking = unscored(over, gate.measure)
    if lacking.any() or baseline:
        worst = with_scores(over, lacking, gate.measure, gate.bad_score)
        against = _find(gate, worst, settings, worst=True)
        if against is None or _side(gate, against, settings) is not Verdict.HELD:
            return words.why_against(counts, against)
    return words.why_short(gate, found) if found.short else None


def _way_out(gate: Gate, chosen: pd.DataFrame, pending: Mask, settings: GateSettings) -> str | None:
    """Return why a gate that is broken so far may still hold; ``None`` if it cannot."""
    if gate.measure in TOTALS:
        return None if gate.upper else words.why_unfinished_broken()
    # Tasks that end early stay undecided after an error, which the estimate does not show.
    errors = unscored(chosen, gate.measure) & decided_by(chosen, Measure.of(base(gate.measure)))
    best = with_scores(chosen, pending | errors, gate.measure, 1.0 - gate.bad_score)
    found = _find(gate, best, settings)
    return words.why_unfinished_broken() if found and gate.accepts(found.value) else None


def _result(
    gate: Gate, verdict: Verdict, found: GateEstimate | None, counts: Counts, why: str
) -> GateResult:
    result = GateResult(
        gate=gate.text,
        source=gate.source,
        verdict=verdict,
        value=None,
        low=None,
        high=None,
        units=0,
        runs=counts.scored,
        errors=counts.errors,
        pending=counts.pending,
        why=why,
    )
    if found is None:
        return result
    low, high = found.low, found.high
    return replace(
        result, value=found.value, low=low, high=high, units=found.units, runs=found.runs
    )
