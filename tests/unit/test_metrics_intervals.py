from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from pytest_siren.metrics.rates.intervals import all_or_none, mid_p

MEANS = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-9, 1))
SIZES = st.floats(0.5, 1e6)


@pytest.mark.parametrize("clusters", [1, 2, 20, 629, 10**6])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_all_or_none_is_exact(clusters: int, confidence: float) -> None:
    exact = stats.binomtest(0, clusters).proportion_ci(confidence, method="exact")
    assert all_or_none(clusters, confidence) == pytest.approx(exact.high, rel=1e-9)


@pytest.mark.parametrize(("x", "n"), [(1, 20), (5, 20), (19, 20), (3, 100), (500, 1_000)])
def test_the_tails_of_the_mid_p_interval_are_half_the_rest(x: int, n: int) -> None:
    low, high = mid_p(x / n, n)
    assert stats.binom.sf(x, n, low) + stats.binom.pmf(x, n, low) / 2 == pytest.approx(0.025)
    assert stats.binom.cdf(x - 1, n, high) + stats.binom.pmf(x, n, high) / 2 == pytest.approx(0.025)


@given(MEANS, SIZES)
def test_mid_p_lies_within_clopper_pearson_and_around_the_mean(mean: float, size: float) -> None:
    low, high = mid_p(mean, size)
    assert 0.0 <= low <= mean <= high <= 1.0
    outer = proportion_confint(mean * size, size, method="beta")
    assert low >= np.nan_to_num(outer[0]) - 1e-9
    assert high <= np.nan_to_num(outer[1], nan=1.0) + 1e-9


@given(MEANS, SIZES)
def test_success_and_failure_are_treated_alike(mean: float, size: float) -> None:
    low, high = mid_p(mean, size)
    low_of_failure, high_of_failure = mid_p(1.0 - mean, size)
    assert (low, high) == (
        pytest.approx(1.0 - high_of_failure, abs=1e-8),
        pytest.approx(1.0 - low_of_failure, abs=1e-8),
    )


def test_more_observations_and_less_confidence_give_a_narrower_interval() -> None:
    sizes = np.array([2.5, 10.0, 100.0, 1e4])
    low, high = mid_p(0.3, sizes)
    assert (np.diff(high - low) < 0).all()
    assert high[-1] - low[-1] == pytest.approx(2 * 1.96 * (0.3 * 0.7 / 1e4) ** 0.5, rel=0.01)
    narrow = mid_p(0.3, sizes, 0.8)
    assert ((narrow[0] > low) & (narrow[1] < high)).all()


def test_many_intervals_are_made_at_once() -> None:
    means = np.array([0.0, 0.2, 1.0])
    low, high = mid_p(means, 20.0)
    for index, mean in enumerate(means):
        assert (low[index], high[index]) == pytest.approx(mid_p(mean, 20.0))
    assert (low[0], high[0], high[2]) == (0.0, pytest.approx(all_or_none(20)), 1.0)


@pytest.mark.parametrize("given", [(1.1, 5, 0.95), (-0.1, 5, 0.95), (0.5, 0, 0.95), (0.5, 5, 1.0)])
def test_what_cannot_be_is_refused(given: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="an interval needs a mean"):
        mid_p(*given)
