"""Intervals hold the true rate as often as they say. At length: `python -m benchmarks.coverage`."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from benchmarks.simulation import Cell, coverage, intervals, means

from pytest_siren.metrics.rates.intervals import Clusters, estimate

TIMES = {6: 600, 20: 1_500, 100: 1_000, 1_000: 300}
RATES = (0.01, 0.05, 0.2, 0.5)


def held(cell: Cell, seed: int = 11) -> None:
    times = TIMES[cell.tasks]
    found = coverage(np.random.default_rng(seed), cell, times)
    # Three standard errors of a share of 95 % of so many evaluations.
    slack = 3 * (0.95 * 0.05 / times) ** 0.5
    assert found.share >= 0.93 - slack, (cell, found)
    if cell.fewer >= 5:
        assert found.share <= 0.98 + slack, (cell, found)


QUICK = [(20, 5, 0.3), (100, 1, 0.0)]
LONG = [
    (tasks, runs, alike)
    for tasks in (20, 100, 1_000)
    for runs, alike in [(1, 0.0), *product((5, 10), (0.0, 0.3, 1.0))]
    if (tasks, runs, alike) not in QUICK
]


@pytest.mark.parametrize(
    ("tasks", "runs", "alike"),
    [*QUICK, *(pytest.param(*one, marks=pytest.mark.nightly) for one in LONG)],
    ids=str,
)
def test_intervals_hold_the_rate(tasks: int, runs: int, alike: float) -> None:
    for rate in RATES:
        held(Cell(tasks, runs, rate, alike))


@pytest.mark.parametrize(
    "alike",
    [
        pytest.param(0.0, marks=pytest.mark.nightly),
        0.3,
        pytest.param(1.0, marks=pytest.mark.nightly),
    ],
)
def test_intervals_hold_the_rate_where_couples_of_a_task_are_alike(alike: float) -> None:
    for rate in RATES:
        held(Cell(6, 1, rate, min(alike, 0.5), couples=40))
        held(Cell(20, 1, rate, alike, couples=5))
        held(Cell(100, 2, rate, alike, couples=3))


def test_intervals_hold_the_rate_with_two_clusters() -> None:
    """Two clusters often look alike by chance; the upper bound is for 20 tasks and more."""
    for rate in (0.3, 0.5):
        found = coverage(np.random.default_rng(4), Cell(2, 40, rate, 0.3), 1_500)
        assert found.share >= 0.93, (rate, found)


def test_taking_alike_couples_for_independent_would_hold_far_less() -> None:
    cell = Cell(20, 1, 0.3, alike=1.0, couples=5)
    values = means(np.random.default_rng(1), cell, 500)
    low, high = intervals(values, Cell(100, 1, 0.3))
    assert np.mean((low <= 0.3) & (high >= 0.3)) < 0.75


@pytest.mark.parametrize("all_of", [False, True], ids=["pass@k", "pass^k"])
@pytest.mark.parametrize("k", [2, 5])
def test_intervals_hold_pass_at_k(all_of: bool, k: int) -> None:
    """The truth is the mean over tasks of the chance that one, or all, of k runs succeed."""
    cell, times = Cell(100, 10, 0.3, alike=0.3), 1_000
    random = np.random.default_rng(5)
    successes = np.rint(means(random, cell, times) * cell.runs)
    pool = successes if all_of else cell.runs - successes
    share = np.prod([np.clip(pool - i, 0, None) / (cell.runs - i) for i in range(k)], axis=0)
    values = share if all_of else 1.0 - share
    # Moments of the beta distribution that the tasks' rates are drawn from.
    spread = 1 / cell.alike - 1
    part = (cell.rate if all_of else 1 - cell.rate) * spread
    moment = float(np.prod([(part + i) / (spread + i) for i in range(k)]))
    truth = moment if all_of else 1.0 - moment
    assert values.mean() == pytest.approx(truth, abs=0.005)
    low, high = intervals(values, cell)
    slack = 3 * (0.95 * 0.05 / times) ** 0.5
    assert 0.93 - slack <= np.mean((low <= truth) & (truth <= high)) <= 0.98 + slack


@pytest.mark.parametrize(
    "cell", [Cell(20, 5, 0.05, 0.3), Cell(20, 1, 0.02), Cell(6, 2, 0.9, 0.5, 3)]
)
def test_what_is_simulated_is_what_is_shipped(cell: Cell) -> None:
    values = means(np.random.default_rng(3), cell, 50)
    low, high = intervals(values, cell)
    clusters = np.repeat(np.arange(cell.tasks), cell.couples)
    for row, *interval in zip(values, low, high, strict=True):
        found = estimate(row, Clusters.of(clusters), runs=len(row) * cell.runs)
        assert [found.low, found.high] == pytest.approx(interval, abs=1e-9)
