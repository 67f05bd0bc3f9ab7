"""How much measures differ between two tables of runs, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_siren.metrics.balance import Balance, Usage, usage
from pytest_siren.metrics.fdr import benjamini_hochberg
from pytest_siren.metrics.increase import Increase, increase, over_pairs
from pytest_siren.metrics.matched import Unscored, match
from pytest_siren.metrics.measures import Cluster, Errors, Measure, run_scores
from pytest_siren.metrics.meta import MetaAnalysis, meta_analysis
from pytest_siren.metrics.pairing import Pairing, both_about, mixed, pair
from pytest_siren.metrics.selective import Selective, selective
from pytest_siren.metrics.tested import HIGHER_IS_WORSE, How, Tested, put_to_tests

__all__ = ["Compared", "Comparison", "Increase", "Unscored", "compare", "increase"]

Bools = npt.NDArray[np.bool_]

MEASURES = ("utility", "utility_under_attack", "asr")
SUBGROUPS = ("dataset", "suite", "attack")


@dataclass(frozen=True)
class Compared:
    """One measure of both sides."""

    measure: str
    balance: Balance
    overlap: Increase
    """The pairs, and what was left out of them; left is the baseline."""
    tests: tuple[Tested, ...]
    """Of all pairs first, then of subgroups; none where no pair is scored on both sides."""
    meta: MetaAnalysis | None
    """Over the first of the columns that divides the pairs; ``None`` where none does."""
    selective: tuple[Selective, Selective] | None
    """Left and right, over the pairs: how often a run went badly among those whose task's other
    runs went well; ``None`` where no task has two pairs."""


@dataclass(frozen=True)
class Comparison:
    """Two sides, compared pair by pair: right with left."""

    confidence: float
    margin: float | None
    cluster: str
    seed: int
    measures: tuple[Compared, ...]
    left: Usage
    right: Usage
    notes: tuple[str, ...]
    """What the reader must know of how pairs were made."""
    mixed: tuple[str, ...]
    """Why a side is no single thing to compare: several configurations of the same runs."""

    @property
    def tests(self) -> tuple[Tested, ...]:
        """All tests of all measures."""
        return tuple(test for one in self.measures for test in one.tests)

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Measures that both sides have runs of, and that no pair is scored in on both sides."""
        return tuple(
            one.measure
            for one in self.measures
            if one.balance.left and one.balance.right and not one.tests
        )

    @property
    def worse(self) -> tuple[Tested, ...]:
        """Tests in which the right side is worse, significantly so over all tests."""
        level = 1.0 - self.confidence
        return tuple(test for test in self.tests if test.q < level and test.worsening > 0.0)

    @property
    def undecided(self) -> tuple[Tested, ...]:
        """Tests whose interval shows the right side worse while their q does not."""
        level = 1.0 - self.confidence
        return tuple(
            test
            for test in self.tests
            if test.q >= level and test.worsening > 0.0 and test.excludes_zero
        )

    @property
    def not_shown(self) -> tuple[Tested, ...]:
        """Measures over all pairs that may have worsened by the margin; none without a margin."""
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
    cluster: Cluster = Cluster.COUPLE,
    seed: int = 0,
) -> Comparison:
    """Compare two tables of runs (``metrics/runs.py``) pair by pair, in every measure they have.

    Models, agents and configurations of the two sides may differ. ``by`` names columns whose values
    are tested as subgroups; one that divides the pairs as one before it does is left out.
    ``margin`` is what a measure may worsen by, a share. Where either side has exactly one attack,
    those two are compared whatever they are called. Raises ``ValueError`` for a margin that is not
    above 0.
    """
    how = How(confidence, margin, seed)
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
    how: How,
    notes: list[str],
) -> Compared | None:
    left, right, firsts = both_about(left, right, measure)
    if not len(left) and not len(right):
        return None
    made = pair(left, right, rename=True)
    before, after = left.iloc[made.left], right.iloc[made.right]
    matched = match(before, after, measure, cluster=cluster)
    tests: list[Tested] = []
    meta = None
    if len(matched.before):
        tests.append(put_to_tests(str(measure), measure.stem, "all", matched, how))
        groups = _subgroups(before.iloc[matched.rows], by)
        for column, masks in groups.items():
            found = [
                put_to_tests(
                    str(measure), measure.stem, f"{column}={value}", matched.only(mask), how
                )
                for value, mask in masks.items()
            ]
            tests += found
            meta = meta or _meta(found, how.confidence)
    notes += _notes(made, left, right)
    if firsts:
        notes.append("only first runs are compared: tasks of one side may have ended early")
    return Compared(
        measure=str(measure),
        balance=Balance(len(left), len(right)),
        overlap=over_pairs(made, before, after, matched, measure, how.confidence),
        tests=tuple(tests),
        meta=meta,
        selective=_selective(before, after, measure, matched.scored),
    )


def _selective(
    before: pd.DataFrame, after: pd.DataFrame, measure: Measure, scored: Bools
) -> tuple[Selective, Selective] | None:
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
        found.append(selective(losses, units))
    left, right = found
    return None if left is None or right is None else (left, right)


def _subgroups(rows: pd.DataFrame, by: Sequence[str]) -> dict[str, dict[str, Bools]]:
    """Return column to value to which units have it; only columns that divide anew."""
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


def _meta(tests: Sequence[Tested], confidence: float) -> MetaAnalysis:
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
