"""What short reports say of a comparison with a baseline."""

from __future__ import annotations

from pytest_siren.metrics.paired import Comparison, Increase
from pytest_siren.reports.data import Change


def changes(comparison: Comparison) -> tuple[Change, ...]:
    """Return how each measure of ``comparison`` differs, without those that neither side has."""
    found = (_change(one.overlap) for one in comparison.measures)
    return tuple(one for one in found if one.pairs or one.left_out)


def _change(one: Increase) -> Change:
    difference = one.difference
    return Change(
        measure=one.measure,
        before=one.before,
        after=one.after,
        low=None if difference is None else difference.low,
        high=None if difference is None else difference.high,
        pairs=one.pairs,
        left_out=one.left_out + one.only_baseline.runs + one.only_runs.runs,
    )
