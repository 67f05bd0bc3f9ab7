"""How much a measure lies above that of a baseline."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pytest_siren.metrics.difference import Difference, mean_difference
from pytest_siren.metrics.matched import Matched, Unscored, match, unscored
from pytest_siren.metrics.measures import Cluster, Measure
from pytest_siren.metrics.pairing import Alone, Pairing, both_about, pair


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


def increase(
    baseline: pd.DataFrame,
    runs: pd.DataFrame,
    measure: Measure,
    *,
    confidence: float = 0.95,
    cluster: Cluster = Cluster.COUPLE,
) -> Increase:
    """Compare ``runs`` with ``baseline``, two tables of ``metrics/runs.py``, in one measure.

    Pairs are made by dataset, task, attack and run index (``pairing.pair``), of first runs only
    where tasks of either side ended early. What cannot be
    compared is counted and named, never guessed, and raises nothing.
    """
    made, before, after = paired(baseline, runs, measure)
    matched = match(before, after, measure, cluster=cluster)
    return over_pairs(made, before, after, matched, measure, confidence)


def paired(
    baseline: pd.DataFrame, runs: pd.DataFrame, measure: Measure
) -> tuple[Pairing, pd.DataFrame, pd.DataFrame]:
    """Return the pairs that ``measure`` is of, and the runs of either side, row by row."""
    left, right, _ = both_about(baseline, runs, measure)
    made = pair(left, right)
    return made, left.iloc[made.left], right.iloc[made.right]


def over_pairs(
    made: Pairing,
    before: pd.DataFrame,
    after: pd.DataFrame,
    matched: Matched,
    measure: Measure,
    confidence: float,
) -> Increase:
    """Describe the pairs ``made``, of which ``matched`` holds what is scored on both sides.

    ``before`` and ``after`` are the runs of the pairs, row by row.
    """
    found = len(matched.before) > 0
    differences = matched.after - matched.before
    return Increase(
        measure=str(measure),
        difference=mean_difference(differences, matched.clusters, confidence=confidence)
        if found
        else None,
        before=float(matched.before.mean()) if found else None,
        after=float(matched.after.mean()) if found else None,
        pairs=int(matched.scored.sum()),
        left_out=int((~matched.scored).sum()),
        unscored_baseline=unscored(before, measure),
        unscored_runs=unscored(after, measure),
        only_baseline=made.only_left,
        only_runs=made.only_right,
    )
