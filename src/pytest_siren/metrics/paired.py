"""How much a measure differs between two tables of runs, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.metrics.difference import Difference, mean_difference
from pytest_siren.metrics.measures import Cluster, Measure, run_scores, units
from pytest_siren.metrics.measures import Errors as HowErrors
from pytest_siren.metrics.pairing import Alone, about, pair

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unscored:
    """Why runs of one side, each with a counterpart on the other, count for nothing."""

    errors: int
    cancelled: int
    unknown: int
    """Scored, but this score is unknown."""


@dataclass(frozen=True)
class Increase:
    """How much a measure of ``runs`` lies above that of the baseline, over pairs scored in both."""

    measure: str
    difference: Difference | None
    """Runs minus baseline; ``None`` where no pair is scored on both sides."""
    before: float | None
    """The baseline's rate over these pairs."""
    after: float | None
    """The rate of the runs over these pairs."""
    pairs: int
    """Pairs of runs that are scored on both sides."""
    left_out: int
    """Pairs of which a side, or both, is not scored."""
    unscored_baseline: Unscored
    unscored_runs: Unscored
    only_baseline: Alone
    only_runs: Alone

    @property
    def complete(self) -> bool:
        """Whether every run of either side was compared with its counterpart."""
        alone = self.only_baseline.runs + self.only_runs.runs
        return self.difference is not None and not self.left_out and not alone


@dataclass(frozen=True)
class Matched:
    """The two values of every unit that has pairs, and the rows that they come from."""

    before: Floats
    after: Floats
    clusters: Ints
    runs: Ints
    """Pairs behind each unit."""
    rows: Ints
    """Position, among the pairs, of one pair of each unit."""
    scored: npt.NDArray[np.bool_]
    """Which of all pairs are scored on both sides."""


def increase(
    baseline: pd.DataFrame,
    runs: pd.DataFrame,
    measure: Measure,
    *,
    confidence: float = 0.95,
    cluster: Cluster = Cluster.COUPLE,
) -> Increase:
    """Compare ``runs`` with ``baseline``, two tables of ``metrics/runs.py``, in one measure.

    Pairs are made by dataset, task, attack and run index (``pairing.pair``). What cannot be
    compared is counted and named, never guessed, and raises nothing.
    """
    left, right = about(baseline, measure), about(runs, measure)
    pairing = pair(left, right)
    before, after = left.iloc[pairing.left], right.iloc[pairing.right]
    matched = match(before, after, measure, cluster=cluster)
    found = len(matched.before) > 0
    return Increase(
        measure=str(measure),
        difference=mean_difference(
            matched.after - matched.before, matched.clusters, confidence=confidence
        )
        if found
        else None,
        before=float(matched.before.mean()) if found else None,
        after=float(matched.after.mean()) if found else None,
        pairs=int(matched.scored.sum()),
        left_out=int((~matched.scored).sum()),
        unscored_baseline=unscored(before, measure),
        unscored_runs=unscored(after, measure),
        only_baseline=pairing.only_left,
        only_runs=pairing.only_right,
    )


def match(
    before: pd.DataFrame, after: pd.DataFrame, measure: Measure, *, cluster: Cluster
) -> Matched:
    """Return the values of ``measure`` for the units of pairs: row by row of the two tables."""
    scores = run_scores(before, measure, HowErrors.EXCLUDE) + run_scores(
        after, measure, HowErrors.EXCLUDE
    )
    scored = ~np.isnan(scores)
    kept = np.flatnonzero(scored)
    left = before.iloc[kept].reset_index(drop=True)
    right = after.iloc[kept].reset_index(drop=True)
    # A unit is a task in one configuration of either side: the two tables must agree on it.
    both = left["identity"].astype(str) + " " + right["identity"].astype(str)
    shared = {name: left[name] for name in ("dataset", "task_id", "benign_task", "malicious_task")}
    identity = pd.Categorical(both)
    one = units(left.assign(identity=identity), measure, cluster=cluster)
    other = units(right.assign(identity=identity, **shared), measure, cluster=cluster)
    return Matched(one.values, other.values, one.clusters, one.runs, kept[one.rows], scored)


def unscored(paired: pd.DataFrame, measure: Measure) -> Unscored:
    """Count the runs of one side of the pairs that ``measure`` has no value for."""
    lacking = paired["status"][np.isnan(run_scores(paired, measure, HowErrors.EXCLUDE))]
    status = lacking.astype(str).value_counts()
    return Unscored(
        errors=int(status.get("error", 0)),
        cancelled=int(status.get("cancelled", 0)),
        unknown=int(status.get("scored", 0)),
    )
