"""pass@k of the one engine, against the published formula and an enumeration."""

from __future__ import annotations

import random as randomness
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from pytest_siren.metrics.rates.choices import Cluster, Estimate
from pytest_siren.metrics.rates.intervals import estimate
from pytest_siren.metrics.rates.measures import Measure, pass_at_k_of_units, rate
from tests.unit.gates_sample import run, runs

COUNTS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)
SCORES = st.dictionaries(
    st.text("abcu:", min_size=1, max_size=3),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    min_size=1,
    max_size=6,
)


def pass_at_k(n: int, c: int, k: int, *, all_of: bool = False) -> float:
    counts, successes = np.array([n]), np.array([float(c)])
    return float(pass_at_k_of_units(counts, successes, Measure("pass", all_of, k))[0])


def table(scores: dict[str, list[float]]) -> pd.DataFrame:
    """Return attacked runs with ``scores`` by couple."""
    rows = [
        run(f"{task}:m" if ":" not in task else task, index, attack="loud", attack_score=score)
        for task, found in scores.items()
        for index, score in enumerate(found)
    ]
    return runs(*rows)


def made(scores: dict[str, list[float]], name: str, cluster: Cluster = Cluster.COUPLE) -> Estimate:
    found = rate(table(scores), Measure.of(name), cluster=cluster)
    assert found is not None
    return found


@given(COUNTS)
def test_pass_at_k_is_the_published_formula(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    assert pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-12)
    assert pass_at_k(n, c, k, all_of=True) == pytest.approx(comb(c, k) / comb(n, k), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 3), (6, 1, 2), (4, 4, 1), (7, 0, 7), (3, 1, 3)])
def test_pass_at_k_is_the_share_of_draws_that_hold_a_success(n: int, c: int, k: int) -> None:
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@given(COUNTS)
def test_pass_at_k_is_scipys_chance_of_a_draw_with_a_success(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    assert pass_at_k(n, c, k) == pytest.approx(hypergeom.sf(0, n, c, k), abs=1e-9)


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


def test_pass_at_k_of_many_runs_neither_overflows_nor_rounds_away() -> None:
    assert pass_at_k(10**6, 10, 1_000) == pytest.approx(0.00995, rel=1e-2)
    assert 0.0 < pass_at_k(10**9, 1, 1) < 2e-9


def test_only_scores_of_exactly_1_are_successes_for_a_larger_k() -> None:
    assert made({"a": [0.999, 0.999], "b": [1.0, 0.0]}, "attack_pass@2").value == 0.5


def test_a_rate_says_what_it_is_the_mean_of() -> None:
    scores = {"a": [1.0, 0.0, 0.0], "b": [0.0, 0.0], "c": [1.0]}
    found = made(scores, "attack_pass@2")
    values = np.array([pass_at_k(3, 1, 2), 0.0])
    assert found == replace(
        estimate(values, runs=5, k=2), short=1, worst=(found.value, found.value)
    )
    assert (found.units, found.runs, found.clusters) == (2, 5, 2)
    first = made(scores, "attack_pass@1")
    assert (first.value, first.units, first.runs) == pytest.approx((4 / 9, 3, 6))


def test_more_draws_than_any_task_has_runs_give_no_rate() -> None:
    scores = table({"a": [1.0, 1.0], "b": [1.0]})
    assert rate(scores, Measure.of("attack_pass@3")) is None
    with pytest.raises(ValueError, match="of 1 or more"):
        Measure.of("attack_pass@0")


def test_asr_counts_only_full_successes() -> None:
    found = made({"a": [1.0, 0.9, 0.0, 1.0], "b": [0.5]}, "asr")
    assert (found.value, found.units) == (0.25, 2)


@given(SCORES, st.integers(1, 6))
def test_rates_lie_within_their_intervals(scores: dict[str, list[float]], k: int) -> None:
    for name in (f"attack_pass@{k}", "asr"):
        found = rate(table(scores), Measure.of(name))
        if found is not None:
            assert 0.0 <= found.low <= found.value <= found.high <= 1.0


@given(SCORES, st.integers(0, 1000))
def test_rates_do_not_depend_on_the_order_in_which_runs_end(
    scores: dict[str, list[float]], seed: int
) -> None:
    shuffled = [(task, list(found)) for task, found in scores.items()]
    random = randomness.Random(seed)
    random.shuffle(shuffled)
    for _, found in shuffled:
        random.shuffle(found)
    for name in ("attack_pass@1", "asr"):
        assert rate(table(dict(shuffled)), Measure.of(name)) == rate(
            table(scores), Measure.of(name)
        )


def test_couples_of_one_task_are_alike_where_they_are_said_to_be() -> None:
    scores = {f"u{u}:m{m}": [float(u < 4)] for u in range(10) for m in range(4)}
    by = {cluster: made(scores, "asr", cluster) for cluster in Cluster}
    by_couple, by_benign = by[Cluster.COUPLE], by[Cluster.BENIGN]
    assert {str(one): found.clusters for one, found in by.items()} == {
        "crossed": 4,
        "benign": 10,
        "malicious": 4,
        "couple": 40,
        "none": 40,
    }
    assert by_benign.low < by_couple.low < 0.4 < by_couple.high < by_benign.high
    assert 7 < by_benign.effective < 10
