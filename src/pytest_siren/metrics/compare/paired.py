"""Compares two tables of runs in each measure, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.metrics.compare.difference import Difference, mean_difference
from pytest_siren.metrics.compare.effects import MetaAnalysis, meta_analysis
from pytest_siren.metrics.compare.pairing import (
    MatchedScores,
    Pairing,
    UnpairedRuns,
    Unscored,
    comparable_runs,
    match,
    mixed,
    pair,
    unscored,
)
from pytest_siren.metrics.compare.selective import SelectiveRisk, selective_risk
from pytest_siren.metrics.compare.significance import (
    HIGHER_IS_WORSE,
    PairedTestResult,
    PairedTestSettings,
    benjamini_hochberg,
    run_tests,
)
from pytest_siren.metrics.rates.choices import Cluster, Errors
from pytest_siren.metrics.rates.measures import Measure, run_scores

_NOTED, _WARNED = 2.0, 5.0


@dataclass(frozen=True)
class Balance:
    """Numbers of runs of either side that a measure applies to."""

    left: int
    right: int

    @property
    def ratio(self) -> float | None:
        """Ratio of the larger to the smaller number; ``None`` if a side has none."""
        smaller, larger = sorted((self.left, self.right))
        return larger / smaller if smaller else None

    @property
    def level(self) -> str:
        """``even``; ``noted`` above 2 to 1; ``warned`` above 5 to 1, or if a side has none."""
        if self.left == self.right:
            return "even"
        if self.ratio is None or self.ratio > _WARNED:
            return "warned"
        return "noted" if self.ratio > _NOTED else "even"


@dataclass(frozen=True)
class Usage:
    """Tokens, cost and time of runs, over all attempts; ``None`` if unknown for all of them."""

    runs: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    """US dollars of the attempts whose price is known."""
    unpriced: int
    """Attempts whose price is not known."""
    seconds: float | None
    """Mean duration of the attempts that count."""


def usage(runs: pd.DataFrame) -> Usage:
    """Return the usage of ``runs``, a table of ``metrics/frame.py``.

    A baseline file holds scores only: its runs have no attempts, so their usage is unknown.
    """
    if not int(runs["attempts"].sum()):
        return Usage(len(runs), None, None, None, 0, None)
    unpriced = int(runs["unpriced"].sum())
    priced = unpriced < int(runs["attempts"].sum())
    durations = runs["duration"].to_numpy(np.float64)
    known = durations[~np.isnan(durations)]
    return Usage(
        runs=len(runs),
        input_tokens=int(runs["input_tokens"].sum()),
        output_tokens=int(runs["output_tokens"].sum()),
        cost=float(np.nansum(runs["cost"].to_numpy(np.float64))) if priced else None,
        unpriced=unpriced,
        seconds=float(known.mean()) if len(known) else None,
    )


@dataclass(frozen=True)
class Increase:
    """The difference of a measure between runs and baseline, over pairs scored on both sides."""

    measure: str
    difference: Difference | None
    """Runs minus baseline; ``None`` if no pair is scored on both sides."""
    before: float | None
    """The baseline's rate over these pairs."""
    after: float | None
    """The rate of the runs over these pairs."""
    pairs: int
    """Pairs of runs that are scored on both sides."""
    left_out: int
    """Pairs that are not scored on at least one side."""
    unscored_baseline: Unscored
    unscored_runs: Unscored
    only_baseline: UnpairedRuns
    only_runs: UnpairedRuns

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
    cluster: Cluster = Cluster.CROSSED,
) -> Increase:
    """Compare ``runs`` with ``baseline``, two tables of ``metrics/frame.py``, in one measure.

    Runs are paired by dataset, task, attack and run index (``pairing.pair``), first runs only if
    tasks of either side may have ended early. The result counts the runs that cannot be compared.
    """
    made, before, after = paired_runs(baseline, runs, measure)
    matched = match(before, after, measure, cluster=cluster)
    return increase_over_pairs(made, before, after, matched, measure, confidence)


def paired_runs(
    baseline: pd.DataFrame, runs: pd.DataFrame, measure: Measure
) -> tuple[Pairing, pd.DataFrame, pd.DataFrame]:
    """Return the pairs that ``measure`` applies to, and the paired runs of either side."""
    left, right, _ = comparable_runs(baseline, runs, measure)
    made = pair(left, right)
    return made, left.iloc[made.left], right.iloc[made.right]


def increase_over_pairs(
    made: Pairing,
    before: pd.DataFrame,
    after: pd.DataFrame,
    matched: MatchedScores,
    measure: Measure,
    confidence: float,
) -> Increase:
    """Return the increase over the pairs ``made``; ``matched`` are those scored on both sides.

    ``before`` and ``after`` are the paired runs, row by row.
    """
    found = len(matched.before) > 0
    differences = matched.after - matched.before
    return Increase(
        measure=str(measure),
        difference=mean_difference(differences, matched.tasks, confidence=confidence)
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


Bools = npt.NDArray[np.bool_]

MEASURES = ("utility", "utility_under_attack", "asr")
SUBGROUPS = ("dataset", "suite", "attack")


@dataclass(frozen=True)
class MeasureComparison:
    """One measure of both sides."""

    measure: str
    balance: Balance
    overlap: Increase
    """The pairs, and the runs left out of them; left is the baseline."""
    tests: tuple[PairedTestResult, ...]
    """All pairs first, then subgroups; empty if no pair is scored on both sides."""
    meta: MetaAnalysis | None
    """Over the first of the columns that divides the pairs; ``None`` if none does."""
    selective: tuple[SelectiveRisk, SelectiveRisk] | None
    """Risk and coverage of either side, left and right; ``None`` if no task has two pairs."""


@dataclass(frozen=True)
class Comparison:
    """Two sides, compared pair by pair: right with left."""

    confidence: float
    margin: float | None
    cluster: str
    seed: int
    measures: tuple[MeasureComparison, ...]
    left: Usage
    right: Usage
    notes: tuple[str, ...]
    """Remarks on how runs were paired."""
    mixed: tuple[str, ...]
    """Sides that mix several configurations of the same runs."""

    @property
    def tests(self) -> tuple[PairedTestResult, ...]:
        """All tests of all measures."""
        return tuple(test for one in self.measures for test in one.tests)

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Measures that both sides have runs of, but no pair that is scored on both sides."""
        return tuple(
            one.measure
            for one in self.measures
            if one.balance.left and one.balance.right and not one.tests
        )

    @property
    def worse(self) -> tuple[PairedTestResult, ...]:
        """Tests in which the right side is significantly worse after correction (q)."""
        level = 1.0 - self.confidence
        return tuple(test for test in self.tests if test.q < level and test.worsening > 0.0)

    @property
    def undecided(self) -> tuple[PairedTestResult, ...]:
        """Tests whose interval shows the right side as worse although q is not significant."""
        level = 1.0 - self.confidence
        return tuple(
            test
            for test in self.tests
            if test.q >= level and test.worsening > 0.0 and test.excludes_zero
        )

    @property
    def not_shown(self) -> tuple[PairedTestResult, ...]:
        """Tests over all pairs that did not show non-inferiority; none without a margin."""
        return tuple(
            test
            for test in self.tests
            if test.group == "all" and test.non_inferiority and not test.non_inferiority.shown
        )


def compare(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    by: Sequence[str] = SUBGROUPS,
    margin: float | None = None,
    confidence: float = 0.95,
    cluster: Cluster = Cluster.CROSSED,
    seed: int = 0,
) -> Comparison:
    """Compare two tables of runs (``metrics/frame.py``) pair by pair, in every measure they have.

    Models, agents and configurations of the two sides may differ. ``by`` names columns whose values
    are tested as subgroups; a column that divides the pairs as an earlier one does is left out.
    ``margin``, a share, is how much a measure may worsen. If either side has exactly one attack,
    the two are compared whatever their names. Raises ``ValueError`` for a margin that is not above
    0.
    """
    how = PairedTestSettings(confidence, margin, seed)
    notes: list[str] = []
    measures = [
        found
        for name in MEASURES
        if (found := _compared(left, right, Measure.of(name), by, cluster, how, notes))
    ]
    tests = [test for one in measures for test in one.tests]
    q_values = iter(benjamini_hochberg([test.p for test in tests]))
    return Comparison(
        confidence=confidence,
        margin=margin,
        cluster=str(cluster),
        seed=seed,
        measures=tuple(
            replace(one, tests=tuple(replace(test, q=next(q_values)) for test in one.tests))
            for one in measures
        ),
        left=usage(left),
        right=usage(right),
        notes=tuple(dict.fromkeys(notes)),
        mixed=(*mixed(left, "left"), *mixed(right, "right")),
    )


def _compared(
    left: pd.DataFrame,
    right: pd.DataFrame,
    measure: Measure,
    by: Sequence[str],
    cluster: Cluster,
    how: PairedTestSettings,
    notes: list[str],
) -> MeasureComparison | None:
    left, right, firsts = comparable_runs(left, right, measure)
    if not len(left) and not len(right):
        return None
    made = pair(left, right, rename=True)
    before, after = left.iloc[made.left], right.iloc[made.right]
    matched = match(before, after, measure, cluster=cluster)
    tests: list[PairedTestResult] = []
    meta = None
    if len(matched.before):
        tests.append(run_tests(str(measure), measure.stem, "all", matched, how))
        groups = _subgroups(before.iloc[matched.rows], by)
        for column, masks in groups.items():
            found = [
                run_tests(str(measure), measure.stem, f"{column}={value}", matched.only(mask), how)
                for value, mask in masks.items()
            ]
            tests += found
            meta = meta or _meta(found, how.confidence)
    notes += _notes(made, left, right)
    if firsts:
        notes.append("only first runs are compared: tasks of one side may have ended early")
    return MeasureComparison(
        measure=str(measure),
        balance=Balance(len(left), len(right)),
        overlap=increase_over_pairs(made, before, after, matched, measure, how.confidence),
        tests=tuple(tests),
        meta=meta,
        selective=_selective(before, after, measure, matched.scored),
    )


def _selective(
    before: pd.DataFrame, after: pd.DataFrame, measure: Measure, scored: Bools
) -> tuple[SelectiveRisk, SelectiveRisk] | None:
    sides = before[scored], after[scored]
    labels = [sides[0]["task_id"], sides[0]["dataset"], *(one["identity"] for one in sides)]
    units = np.zeros(len(labels[0]), dtype=np.int64)
    for label in labels:
        codes = label.cat.codes.to_numpy().astype(np.int64)
        units = np.unique(units * (codes.max(initial=0) + 2) + codes + 1, return_inverse=True)[1]
    found = []
    for side in sides:
        scores = run_scores(side, measure, Errors.EXCLUDE)
        losses = scores if measure.stem in HIGHER_IS_WORSE else 1.0 - scores
        found.append(selective_risk(losses, units))
    left, right = found
    return None if left is None or right is None else (left, right)


def _subgroups(rows: pd.DataFrame, by: Sequence[str]) -> dict[str, dict[str, Bools]]:
    """Return a mask of units by column and value, for columns that divide the units anew."""
    found: dict[str, dict[str, Bools]] = {}
    divisions: set[bytes] = set()
    for column in by:
        codes, values = pd.factorize(np.asarray(rows[column], dtype=object), sort=False)
        division = codes.tobytes()
        if len(values) < 2 or division in divisions:
            continue
        divisions.add(division)
        order = sorted(range(len(values)), key=lambda place: str(values[place]))
        found[column] = {str(values[place]): codes == place for place in order}
    return found


def _meta(tests: Sequence[PairedTestResult], confidence: float) -> MetaAnalysis:
    return meta_analysis(
        [test.difference.value for test in tests],
        [test.difference.error for test in tests],
        confidence=confidence,
    )


def _notes(made: Pairing, left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    notes = []
    if made.renamed is not None:
        one, other = made.renamed
        notes.append(f"attack {one!r} of the left side is compared with {other!r} of the right")
    if made.by_model:
        notes.append("each side holds several agents or models: each is compared with itself")
    elif len(made.left) > min(len(left), len(right)):
        notes.append(
            "one side holds several agents or models: each is compared with the one of the other"
        )
    return notes
