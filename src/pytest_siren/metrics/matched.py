"""The two values of every task that has pairs of runs scored on both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.metrics.measures import Cluster, Errors, Measure, run_scores, units

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

    def only(self, mask: npt.NDArray[np.bool_]) -> Matched:
        """Return the units for which ``mask`` is true."""
        return replace(
            self,
            before=self.before[mask],
            after=self.after[mask],
            clusters=self.clusters[mask],
            runs=self.runs[mask],
            rows=self.rows[mask],
        )


def match(
    before: pd.DataFrame, after: pd.DataFrame, measure: Measure, *, cluster: Cluster
) -> Matched:
    """Return the values of ``measure`` for the units of pairs: row by row of the two tables."""
    scores = run_scores(before, measure, Errors.EXCLUDE) + run_scores(
        after, measure, Errors.EXCLUDE
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
    lacking = paired["status"][np.isnan(run_scores(paired, measure, Errors.EXCLUDE))]
    status = lacking.astype(str).value_counts()
    return Unscored(
        errors=int(status.get("error", 0)),
        cancelled=int(status.get("cancelled", 0)),
        unknown=int(status.get("scored", 0)),
    )
