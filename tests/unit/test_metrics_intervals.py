from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.metrics.intervals import wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion: comparison of
        # seven methods", Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_the_ends_solve_the_equation_of_the_score_test(n: int, data: st.DataObject) -> None:
    mean = data.draw(st.integers(1, 9)) / 10
    for end in wilson(mean, n):
        # Wilson 1927: the p for which |mean - p| is z standard errors sqrt(p (1 - p) / n).
        assert abs(mean - end) == pytest.approx(1.959963985 * sqrt(end * (1 - end) / n), rel=1e-6)


@given(st.floats(0, 1), st.integers(1, 100_000), st.floats(0.5, 0.999))
def test_an_interval_holds_its_mean_and_stays_within_0_and_1(
    mean: float, n: int, confidence: float
) -> None:
    low, high = wilson(mean, n, confidence)
    assert 0.0 <= low <= mean <= high <= 1.0


@given(st.floats(0, 1), st.integers(1, 1_000))
def test_more_tasks_or_less_confidence_narrow_it(mean: float, n: int) -> None:
    def width(low: float, high: float) -> float:
        return high - low

    assert width(*wilson(mean, n + 1)) < width(*wilson(mean, n))
    assert width(*wilson(mean, n, 0.9)) < width(*wilson(mean, n, 0.99))


def test_all_or_nothing_reaches_the_end_exactly() -> None:
    for n in (1, 3, 7, 629):
        assert wilson(0.0, n)[0] == 0.0
        assert wilson(1.0, n)[1] == 1.0


@pytest.mark.parametrize("given", [(-0.1, 5), (1.1, 5), (0.5, 0), (float("nan"), 5), (0.5, 5, 1)])
def test_what_is_no_rate_is_refused(given: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match=r"an interval needs a mean within 0\.\.1, n >= 1"):
        wilson(*given)
