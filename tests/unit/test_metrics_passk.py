from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.metrics.choices import Cluster
from pytest_siren.metrics.estimates import estimate
from pytest_siren.metrics.passk import asr, mean_pass_at_k, pass_at_1, pass_at_k

COUNTS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)
SCORES = st.dictionaries(st.text(max_size=3), st.lists(st.floats(0, 1), max_size=6), max_size=6)


def test_pass_at_1_is_the_mean_per_task_and_then_over_tasks() -> None:
    scores = {"a": [1.0, 0.0, 0.0, 0.0], "b": [1.0], "c": []}
    assert pass_at_1(scores) == (0.25 + 1.0) / 2
    assert pass_at_1({"a": [0.5], "b": [1.0]}) == 0.75
    assert pass_at_1({"a": []}) is None
    assert pass_at_1({}) is None


@given(COUNTS)
def test_pass_at_k_is_the_published_formula(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    assert pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 3), (6, 1, 2), (4, 4, 1), (7, 0, 7), (3, 1, 3)])
def test_pass_at_k_is_the_share_of_draws_that_hold_a_success(n: int, c: int, k: int) -> None:
    draws = list(combinations([True] * c + [False] * (n - c), k))
    share = sum(any(draw) for draw in draws) / len(draws)
    assert pass_at_k(n, c, k) == pytest.approx(share)


@given(COUNTS)
def test_pass_at_k_is_a_probability_that_grows_with_k_and_c(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    value = pass_at_k(n, c, k)
    assert 0.0 <= value <= 1.0
    assert (value == 0.0) == (c == 0)
    if k < n:
        assert pass_at_k(n, c, k + 1) >= value - 1e-12
    if c < n:
        assert pass_at_k(n, c + 1, k) >= value - 1e-12


@given(st.integers(1, 60), st.data())
def test_pass_at_k_of_one_draw_is_the_share_of_successes(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert pass_at_k(n, c, n) == float(c > 0)


def test_pass_at_k_of_many_runs_neither_overflows_nor_rounds_away() -> None:
    assert pass_at_k(10**6, 10, 1_000) == pytest.approx(0.00995, rel=1e-2)
    assert 0.0 < pass_at_k(10**9, 1, 1) < 2e-9


@pytest.mark.parametrize(("n", "c", "k"), [(2, 1, 3), (2, 3, 1), (2, -1, 1), (2, 1, 0)])
def test_counts_that_cannot_be_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"not n={n}, c={c}, k={k}"):
        pass_at_k(n, c, k)


def test_only_scores_of_exactly_1_are_successes_for_a_larger_k() -> None:
    rate = mean_pass_at_k({"a": [0.999, 0.999], "b": [1.0, 0.0]}, 2)
    assert rate is not None
    assert rate.value == 0.5


def test_a_rate_says_what_it_is_the_mean_of() -> None:
    scores = {"a": [1.0, 0.0, 0.0], "b": [0.0, 0.0], "c": [1.0], "d": []}
    rate = mean_pass_at_k(scores, 2)
    assert rate is not None
    values = np.array([pass_at_k(3, 1, 2), 0.0])
    assert rate == replace(estimate(values, runs=5, k=2), short=2)
    assert (rate.units, rate.runs, rate.clusters) == (2, 5, 2)
    first = mean_pass_at_k(scores, 1)
    assert first is not None
    assert (first.value, first.units, first.runs) == (pass_at_1(scores), 3, 6)
    assert first.short == 1


def test_more_draws_than_any_task_has_runs_give_no_rate() -> None:
    assert mean_pass_at_k({"a": [1.0, 1.0], "b": [1.0]}, 3) is None
    assert mean_pass_at_k({"a": []}, 1) is None
    assert mean_pass_at_k({}, 1) is None


def test_a_k_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="a k of at least 1, not 0"):
        mean_pass_at_k({"a": [1.0]}, 0)


def test_asr_counts_only_full_successes() -> None:
    rate = asr({"a": [1.0, 0.9, 0.0, 1.0], "b": [0.5], "c": []})
    assert rate is not None
    assert (rate.value, rate.units, rate.short) == (0.25, 2, 1)
    assert asr({"a": []}) is None


@given(SCORES, st.integers(1, 6))
def test_rates_lie_within_their_intervals(scores: dict[str, list[float]], k: int) -> None:
    for rate in (mean_pass_at_k(scores, k), asr(scores)):
        if rate is not None:
            assert 0.0 <= rate.low <= rate.value <= rate.high <= 1.0
            assert rate.units + rate.short == len(scores)


@given(SCORES, st.randoms())
def test_rates_do_not_depend_on_the_order_in_which_runs_end(
    scores: dict[str, list[float]], random: object
) -> None:
    shuffled = [(task, list(runs)) for task, runs in scores.items()]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for _, runs in shuffled:
        random.shuffle(runs)  # type: ignore[attr-defined]
    assert mean_pass_at_k(dict(shuffled), 1) == mean_pass_at_k(scores, 1)
    assert asr(dict(shuffled)) == asr(scores)


def test_couples_of_one_task_are_alike_where_they_are_said_to_be() -> None:
    scores = {f"u{u}:m{m}": [float(u < 4)] for u in range(10) for m in range(4)}
    by_couple, by_benign, by_malicious = (asr(scores, cluster) for cluster in Cluster)
    assert by_couple is not None
    assert by_benign is not None
    assert by_malicious is not None
    assert (by_couple.clusters, by_benign.clusters, by_malicious.clusters) == (40, 10, 4)
    assert by_benign.low < by_couple.low < 0.4 < by_couple.high < by_benign.high
    assert 7 < by_benign.effective < 10
