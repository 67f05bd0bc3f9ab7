"""Intervals of a difference hold it as often as they say.

At length: ``python -m benchmarks.coverage_difference``.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from benchmarks.paired_simulation import (
    Pair,
    bootstrap_coverage,
    coverage,
    differences,
    intervals,
)

from pytest_siren.metrics.compare.difference import mean_difference

TIMES = {20: 1_500, 100: 800, 1_000: 250}


QUICK = (20, 5, 0.3, 0.5)
LONG = [
    (tasks, *one)
    for tasks in (20, 100, 1_000)
    for one in (
        *((1, 1.0, 0.0), (1, 1.0, 0.5)),
        *((5, 0.0, 0.0), (5, 0.3, 0.5), (5, 1.0, 0.5)),
    )
    if (tasks, *one) != QUICK
]


@pytest.mark.parametrize(
    ("tasks", "runs", "alike", "shared"),
    [QUICK, *(pytest.param(*one, marks=pytest.mark.nightly) for one in LONG)],
    ids=str,
)
def test_intervals_hold_the_difference(tasks: int, runs: int, alike: float, shared: float) -> None:
    for rate, change in product((0.01, 0.1, 0.5), (0.0, 0.02, 0.1, 0.3)):
        pair, times = Pair(tasks, runs, rate, change, alike, shared), TIMES[tasks]
        found = coverage(np.random.default_rng(11), pair, times)
        # Three standard errors of a share of 95 % of so many comparisons.
        slack = 3 * (0.95 * 0.05 / times) ** 0.5
        assert found.share >= 0.93 - slack, (pair, found)
        if pair.differing >= 20:
            assert found.share <= 0.98 + slack, (pair, found)


def test_few_tasks_that_change_at_all_do_not_make_intervals_narrow() -> None:
    """Held 89 % while the spread of a few gains and losses was taken at its word."""
    pair = Pair(100, 10, 0.02, 0.0, alike=0.5, shared=0.5)
    assert coverage(np.random.default_rng(3), pair, 1_500).share >= 0.93


@pytest.mark.nightly
def test_the_percentile_bootstrap_holds_less_where_few_pairs_differ() -> None:
    few, many = Pair(20, 1, 0.01, 0.1, 1.0, 0.5), Pair(100, 1, 0.3, 0.1, 1.0, 0.5)
    assert bootstrap_coverage(np.random.default_rng(1), few, 150).share < 0.9
    assert bootstrap_coverage(np.random.default_rng(1), many, 150).share >= 0.9


@pytest.mark.parametrize(
    "pair",
    [Pair(20, 5, 0.05, 0.1, 0.3, 0.5), Pair(20, 1, 0.02, 0.0), Pair(40, 10, 0.02, 0.02, 0.5)],
)
def test_what_is_simulated_is_what_is_shipped(pair: Pair) -> None:
    values = differences(np.random.default_rng(3), pair, 50)
    for row, low, high in zip(values, *intervals(values), strict=True):
        found = mean_difference(row)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_what_is_made_up_has_the_difference_that_it_says() -> None:
    pair = Pair(2_000, 5, 0.1, 0.1, 0.3, 0.5)
    assert pair.truth == pytest.approx(0.1, abs=1e-3)
    values = differences(np.random.default_rng(2), pair, 50)
    assert values.mean() == pytest.approx(pair.truth, abs=0.003)
