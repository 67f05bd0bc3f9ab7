"""Judges gates: held, broken, or inconclusive where the runs at hand cannot tell.

A gate holds only if its whole interval is on the good side of the bound, every planned run has come
to an end, and it would still hold if each run without a score were counted against it. So nothing
that is missing can make it hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pytest_siren.metrics import gate_words as words
from pytest_siren.metrics.gate_findings import Finding, find
from pytest_siren.metrics.gate_runs import (
    PENDING,
    Mask,
    about,
    counted_as,
    in_group,
    joined,
    known_values,
    of_jobs,
    unknown_scores,
)
from pytest_siren.metrics.measures import Cluster
from pytest_siren.metrics.verdicts import GateResult, Verdict
from pytest_siren.spec.gates import TOTALS, Gate, GateError, parse_gate

__all__ = ["Gate", "GateError", "Judging", "evaluate", "parse_gate"]


@dataclass(frozen=True)
class Judging:
    """How gates are judged."""

    point: bool = False
    """Whether the bare estimate decides rather than its interval."""
    cluster: Cluster = Cluster.COUPLE
    confidence: float = 0.95


@dataclass(frozen=True)
class Counts:
    """The runs that a gate is about."""

    scored: int
    errors: int
    unknown: int
    """Scored runs without the score that is asked for."""
    pending: int
    """Planned runs that have not come to an end, also those that were cancelled."""

    @property
    def planned(self) -> int:
        return self.scored + self.errors + self.unknown + self.pending


def evaluate(
    gates: Iterable[Gate],
    runs: pd.DataFrame,
    *,
    pending: pd.DataFrame | None = None,
    judging: Judging | None = None,
) -> list[GateResult]:
    """Return what came of each gate.

    ``runs`` is a table of ``metrics/runs.py``. ``pending`` is another with a row for each run that
    was planned and was not tried, with the status ``pending``.
    """
    table = runs if pending is None else joined(runs, pending)
    judging = judging or Judging()
    return [_judge(gate, table, judging) for gate in gates]


def _judge(gate: Gate, table: pd.DataFrame, judging: Judging) -> GateResult:
    of_gate = of_jobs(table, gate)
    chosen = of_gate[in_group(of_gate, gate.group)]
    if not len(chosen):
        return _result(
            gate, Verdict.INCONCLUSIVE, None, Counts(0, 0, 0, 0), _missing(gate, of_gate)
        )
    chosen = chosen[about(chosen, gate.measure)]
    counts, unscored, pending = _counted(chosen, gate.measure)
    over = chosen[~pending]
    found = _find(over, gate.measure, judging)
    if found is None:
        why = words.nothing_scored(gate, counts)
        return _result(gate, Verdict.INCONCLUSIVE, None, counts, why)
    verdict = _side(gate, found, judging)
    if verdict is Verdict.HELD:
        doubt = _doubt(gate, found, over, unscored[~pending], counts, judging)
    elif verdict is Verdict.BROKEN and judging.point and counts.pending:
        doubt = _way_out(gate, chosen, pending, judging)
    elif verdict is Verdict.INCONCLUSIVE:
        doubt = words.across(gate, found, counts)
    else:
        doubt = None
    if doubt is not None:
        return _result(gate, Verdict.INCONCLUSIVE, found, counts, doubt)
    return _result(gate, verdict, found, counts, words.decided(gate, found, verdict, judging.point))


def _missing(gate: Gate, runs: pd.DataFrame) -> str:
    """Say what of the gate's group is not there."""
    for key, value in gate.group:
        if not in_group(runs, [(key, value)]).any():
            return words.no_such(key, value, known_values(runs, key))
    return words.no_runs(gate)


def _counted(runs: pd.DataFrame, measure: str) -> tuple[Counts, Mask, Mask]:
    """Return the counts, which runs ended without a score, and which have not ended."""
    errors = (runs["status"] == "error").to_numpy(bool)
    pending = runs["status"].isin((PENDING, "cancelled")).to_numpy(bool)
    unknown = unknown_scores(runs, measure)
    scored = ~(errors | pending | unknown)
    counts = Counts(*(int(np.count_nonzero(one)) for one in (scored, errors, unknown, pending)))
    unscored = np.zeros(len(runs), bool) if measure == "error_rate" else errors | unknown
    return counts, unscored, pending


def _find(runs: pd.DataFrame, measure: str, judging: Judging) -> Finding | None:
    return find(runs, measure, cluster=judging.cluster, confidence=judging.confidence)


def _side(gate: Gate, found: Finding, judging: Judging) -> Verdict:
    """Tell on which side of the bound the interval, or the estimate, lies as a whole."""
    ends = (found.value,) if judging.point else (found.low, found.high)
    good = [gate.accepts(end) for end in ends]
    if all(good):
        return Verdict.HELD
    return Verdict.INCONCLUSIVE if any(good) else Verdict.BROKEN


def _doubt(
    gate: Gate,
    found: Finding,
    over: pd.DataFrame,
    unscored: Mask,
    counts: Counts,
    judging: Judging,
) -> str | None:
    """Return what keeps a gate from holding that would hold by its scored runs alone."""
    if counts.pending:
        return words.unfinished(counts)
    if gate.measure in TOTALS:
        unpriced = int(over["unpriced"].sum()) if gate.measure == "cost" else 0
        return words.unpriced(unpriced, over) if unpriced else None
    if unscored.any():
        worst = counted_as(over, unscored, gate.measure, 1.0 if gate.upper else 0.0)
        against = _find(worst, gate.measure, judging)
        if against is None or _side(gate, against, judging) is not Verdict.HELD:
            return words.against(counts, against)
    return words.short(gate, found) if found.short else None


def _way_out(gate: Gate, chosen: pd.DataFrame, pending: Mask, judging: Judging) -> str | None:
    """Return why a gate that is broken so far may yet hold; ``None`` if it cannot."""
    if gate.measure in TOTALS:
        return None if gate.upper else words.unfinished_broken()
    best = counted_as(chosen, pending, gate.measure, 0.0 if gate.upper else 1.0)
    found = _find(best, gate.measure, judging)
    return words.unfinished_broken() if found and gate.accepts(found.value) else None


def _result(
    gate: Gate, verdict: Verdict, found: Finding | None, counts: Counts, why: str
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
