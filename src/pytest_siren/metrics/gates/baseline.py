"""Gates on changes since a baseline: ``asr_increase``, ``utility_drop`` and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pytest_siren.metrics.compare.paired import increase_over_pairs, paired_runs
from pytest_siren.metrics.compare.pairing import match
from pytest_siren.metrics.gates.estimates import GateEstimate, change_estimate
from pytest_siren.metrics.gates.selection import (
    applies_to,
    base,
    in_group,
    unscored,
    with_scores,
)
from pytest_siren.metrics.rates.choices import Cluster, Correction, Errors, Unexposed
from pytest_siren.metrics.rates.measures import Measure, clusters_of, run_scores, unit_codes
from pytest_siren.metrics.sample_size import OutcomeCounts
from pytest_siren.spec.gates import Gate
from pytest_siren.text.words import counted, listed, shortened

_WHO = ("model", "agent")
"""Keys in which a baseline may differ from the runs that are compared with it."""
_NOT_KEPT = ("job", "vector")
"""Keys that a baseline does not hold."""


@dataclass(frozen=True)
class Baseline:
    """The runs that a session is compared with."""

    runs: pd.DataFrame
    """A table of ``metrics/frame.py``."""
    name: str
    """As the user gave it."""
    subset: bool = False
    """Whether the user selected tasks, so that other tasks of the baseline may be absent."""


def estimate_change(
    runs: pd.DataFrame,
    gate: Gate,
    baseline: Baseline,
    *,
    cluster: Cluster,
    confidence: float,
    missing: float | None = None,
) -> GateEstimate | None:
    """Return the increase, or drop, of the measure; ``None`` if no scored runs can be paired.

    Runs of the baseline without a score get the score ``missing``, unless that is ``None``.
    """
    before = baseline_runs(gate, baseline)
    if missing is not None:
        before = with_scores(before, unscored(before, gate.measure), gate.measure, missing)
    measure = Measure.of(base(gate.measure))
    made, earlier, later = paired_runs(before, runs, measure)
    matched = match(earlier, later, measure, cluster=cluster)
    found = increase_over_pairs(made, earlier, later, matched, measure, confidence)
    change = found.difference
    if change is None:
        return None
    made_of = change_estimate(
        *(change, matched.after - matched.before, matched.tasks, found.pairs),
        drop=gate.measure.endswith("_drop"),
    )
    note = f"from {found.before:.3f} to {found.after:.3f} over {found.pairs:,} pairs of runs"
    return replace(made_of, note=note)


def change_counts(
    runs: pd.DataFrame, gate: Gate, baseline: Baseline, cluster: Cluster
) -> OutcomeCounts | None:
    """Return for each task how often its pairs had each difference; a drop is positive.

    ``None`` if a pair lacks a score on either side: then more pairs alone do not decide the gate.
    """
    measure = Measure.of(base(gate.measure))
    _, earlier, later = paired_runs(baseline_runs(gate, baseline), runs, measure)
    one, other = (run_scores(side, measure, Errors.EXCLUDE) for side in (earlier, later))
    differences = one - other if gate.measure.endswith("_drop") else other - one
    if np.isnan(differences).any():
        return None
    then, now = (side["identity"].astype(object).to_numpy() for side in (earlier, later))
    both = later.assign(identity=pd.Categorical(then + " " + now))
    return OutcomeCounts.of(differences, unit_codes(both), clusters_of(both, measure, cluster))


def baseline_runs(gate: Gate, baseline: Baseline) -> pd.DataFrame:
    """Return the runs of the baseline that ``gate`` applies to."""
    group = [
        (key, value)
        for key, value in gate.group
        if key not in _NOT_KEPT
        and (key not in _WHO or in_group(baseline.runs, [(key, value)]).any())
    ]
    chosen = baseline.runs[in_group(baseline.runs, group)]
    return chosen[applies_to(chosen, gate.measure)]


def unmatched(runs: pd.DataFrame, gate: Gate, baseline: Baseline) -> str | None:
    """Return a message that names tasks of one side only; ``None`` if all tasks are compared."""
    before, now = _tasks(baseline_runs(gate, baseline)), _tasks(runs)
    new, gone = sorted(now - before), sorted(before - now)
    if baseline.subset:
        gone = []
    if not (new or gone):
        return None
    parts = []
    if gone:
        parts.append(
            f"{counted(len(gone), 'task')} of the baseline {_are(gone)} gone ({_named(gone)})"
        )
    if new:
        parts.append(f"{counted(len(new), 'task')} {_are(new)} not in it ({_named(new)})")
    what = " and ".join(parts)
    return f"{what}: renamed or removed? bless a new baseline with siren bless"


def incomparable(runs: pd.DataFrame, gate: Gate, baseline: Baseline) -> str:
    """Return why no run has a counterpart in the baseline."""
    before = baseline_runs(gate, baseline)
    if not len(before):
        known = listed(sorted(map(str, baseline.runs["dataset"].dropna().unique())))
        return f"the baseline {baseline.name} has no runs of this kind (it holds {known})"
    then, now = _values(before, "dataset"), _values(runs, "dataset")
    if not set(then) & set(now):
        return f"the baseline {baseline.name} is of {listed(then)}, the runs are of {listed(now)}"
    then, now = _values(before, "attack"), _values(runs, "attack")
    if then != now and not set(then) & set(now):
        return f"the baseline {baseline.name} was attacked by {listed(then)}, not {listed(now)}"
    return f"no scored run has a scored counterpart in the baseline {baseline.name}"


def _tasks(runs: pd.DataFrame) -> set[tuple[str, str, str]]:
    columns = (runs[name].astype(object).fillna("").astype(str) for name in _UNIT)
    return set(zip(*columns, strict=True))


_UNIT = ("dataset", "task_id", "attack")


def _values(runs: pd.DataFrame, column: str) -> list[str]:
    return sorted(map(str, runs[column].dropna().unique()))


def _named(tasks: Sequence[tuple[str, str, str]]) -> str:
    datasets, attacks = {one[0] for one in tasks}, {one[2] for one in tasks}
    names = []
    for dataset, task, attack in tasks:
        name = task if len(datasets) == 1 else f"{dataset} {task}"
        names.append(name if len(attacks) == 1 else f"{name} [{attack}]")
    return listed(shortened(names))


def _are(tasks: Sequence[object]) -> str:
    return "is" if len(tasks) == 1 else "are"


@dataclass(frozen=True)
class GateSettings:
    """How gates are evaluated."""

    point: bool = False
    """Whether the point estimate is compared with the bound rather than its interval."""
    cluster: Cluster = Cluster.CROSSED
    confidence: float = 0.95
    baseline: Baseline | None = None
    advice: bool = True
    """Whether to compute how many runs would decide an inconclusive gate (up to a second)."""
    unexposed: Unexposed = Unexposed.COUNT
    """How gates on attacks count runs whose model was not sent planted text."""
    looks: int = 0
    """How often gates were evaluated before, at fewer of the same runs."""
    correction: Correction = Correction.NONE
    """How the levels of several gates are corrected."""

    @property
    def level(self) -> float:
        """Probability at most of a verdict that is wrong."""
        return 1.0 - self.confidence
