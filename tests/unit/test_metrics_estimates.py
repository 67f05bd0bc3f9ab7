from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from pytest_siren.metrics.rates.intervals import (
    Clusters,
    clustered_mean,
    effective_size,
    estimate,
    mid_p,
)

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_one_run_of_each_task_is_plain_counting() -> None:
    found = estimate((np.arange(100) < 30).astype(float), runs=100)
    low, high = mid_p(0.3, 99)
    assert (found.value, found.low, found.high) == (0.3, low, high)
    assert (found.units, found.runs, found.clusters, found.method) == (100, 100, 100, "mid-P")
    assert found.effective == pytest.approx(99)


def test_runs_of_a_task_that_are_all_the_same_count_once() -> None:
    once = estimate((np.arange(100) < 30).astype(float), runs=100)
    ten_times = estimate((np.arange(100) < 30).astype(float), runs=1_000)
    assert ten_times.low == pytest.approx(once.low, abs=2e-3)
    assert ten_times.high == pytest.approx(once.high, abs=2e-3)


def test_independent_runs_count_nearly_each() -> None:
    values = np.random.default_rng(1).binomial(10, 0.3, 200) / 10
    assert 1_600 < estimate(values, runs=2_000).effective <= 2_000


def test_the_variance_is_that_of_the_mean_over_clusters() -> None:
    values = np.random.default_rng(2).random(60)
    clusters = np.repeat(np.arange(20), 3)
    means = values.reshape(20, 3).mean(axis=1)
    found = clustered_mean(values, Clusters.of(clusters))
    assert found.variance == pytest.approx(DescrStatsW(means).std_mean ** 2)
    assert (found.number, found.n_eff_if_identical) == (20, 20)


def korn_graubard(values: np.ndarray, runs: int) -> tuple[float, float]:
    """Return their effective size without and with the quantiles of Student's t."""
    mean = values.mean()
    plain = mean * (1 - mean) / (np.var(values, ddof=1) / len(values))
    quantiles = stats.t.ppf(0.975, [runs - 1, len(values) - 1])
    return plain, plain * (quantiles[0] / quantiles[1]) ** 2


def test_the_effective_size_is_korn_and_graubards() -> None:
    random = np.random.default_rng(2)
    values = random.binomial(5, random.random(100)) / 5
    plain, adjusted = korn_graubard(values, 500)
    assert adjusted < plain
    assert effective_size(clustered_mean(values, None), 500) == pytest.approx(adjusted)


def test_no_variance_is_larger_than_that_of_clusters_which_always_or_never_succeed() -> None:
    values = (np.arange(20) < 8).astype(float)
    plain, adjusted = korn_graubard(values, 200)
    assert adjusted < plain
    assert effective_size(clustered_mean(values, None), 200) == pytest.approx(plain)


def test_two_clusters_that_look_alike_are_not_taken_for_independent_runs() -> None:
    assert effective_size(clustered_mean(np.array([0.5, 0.52]), None), 100) < 50


def test_a_success_more_never_lowers_the_upper_limit_below_that_of_none() -> None:
    """Clusters that always succeed may be too rare to have been drawn."""
    none = estimate(np.zeros(50), runs=1_000)
    few = np.zeros(50)
    few[:10] = 0.05
    found = estimate(few, runs=1_000)
    assert found.value == pytest.approx(0.01)
    assert found.high == none.high == pytest.approx(0.0711, abs=1e-4)
    assert estimate(1.0 - few, runs=1_000).low == pytest.approx(1.0 - none.high)


def test_clusters_of_unequal_sizes() -> None:
    values, clusters = np.array([1.0, 1.0, 1.0, 0.0, 0.0]), np.array([7, 7, 7, 3, 2])
    found = clustered_mean(values, Clusters.of(clusters))
    # Sums of residuals 1.2, -0.6 and -0.6.
    assert found.variance == pytest.approx(3 / 2 * (1.2**2 + 0.6**2 + 0.6**2) / 25)
    assert found.n_eff_if_identical == pytest.approx(25 / 11)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_or_none_is_exact_in_the_number_of_clusters(value: float) -> None:
    found = estimate(np.full(40, value), Clusters.of(np.repeat(np.arange(10), 4)), runs=80)
    exact = stats.binomtest(int(10 * value), 10).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert (found.method, found.clusters) == ("exact", 10)


def test_within_a_single_cluster_its_units_are_what_is_counted() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    found = estimate(values, Clusters.of(np.zeros(5, int)), runs=5)
    alone = estimate(values, runs=5)
    assert (found.low, found.high, found.clusters) == (alone.low, alone.high, 1)


def test_of_a_single_task_its_runs_are_what_is_counted() -> None:
    assert estimate(np.array([0.3]), runs=10).effective == 10
    exact = stats.binomtest(0, 10).proportion_ci(0.95, method="exact")
    assert estimate(np.array([0.0]), runs=10).high == pytest.approx(exact.high)
    assert estimate(np.array([0.9]), runs=10, k=5).effective == 2
    assert estimate(np.array([0.0]), runs=1).low == 0.0


@given(VALUES, st.integers(1, 5), st.integers(1, 8), st.randoms())
def test_estimates_are_within_their_interval_and_know_no_order(
    values: list[float], runs: int, groups: int, random: object
) -> None:
    clusters = [index % groups for index in range(len(values))]
    found = estimate(np.array(values), Clusters.of(np.array(clusters)), runs=runs * len(values))
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    pairs = list(zip(values, clusters, strict=True))
    random.shuffle(pairs)  # type: ignore[attr-defined]
    shuffled, alike = (np.array(part) for part in zip(*pairs, strict=True))
    assert estimate(shuffled, Clusters.of(alike), runs=runs * len(values)) == found


@pytest.mark.parametrize("values", [[], [0.5, 1.1], [-0.1], [float("nan")]])
def test_what_is_no_rate_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="an estimate needs"):
        estimate(np.array(values), runs=1)
