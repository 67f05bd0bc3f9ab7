"""Stopping early: wrong at most as often as alpha says, and soon where the answer is clear."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from benchmarks.simulation import Cell, Stopped, stopped_gate
from hypothesis import given
from hypothesis import strategies as st

from pytest_siren.metrics.betting import ConfidenceSequence, RoundSequence
from pytest_siren.metrics.rates.intervals import mid_p

VALUES = st.lists(st.floats(0, 1), max_size=40)


def gates(seeds: int, cell: Cell, bound: float, every: int = 4) -> list[Stopped]:
    return [
        stopped_gate(np.random.default_rng(seed), cell, bound, every=every) for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    "cell",
    [Cell(629, 1, 0.3), Cell(100, 5, 0.3, alike=0.3), Cell(100, 5, 0.3, alike=1.0)],
    ids=["629 couples", "100 couples, 5 runs", "100 couples, 5 runs, all alike"],
)
def test_a_gate_that_is_clearly_broken_is_settled_after_a_quarter_of_the_runs(cell: Cell) -> None:
    made = gates(1_000, cell, 0.1)
    runs = sum(one.runs for one in made) / len(made)
    assert runs < 0.25 * cell.tasks * cell.runs
    assert sum(one.verdict is not False for one in made) <= 0.05 * len(made)


@pytest.mark.parametrize(
    "cell",
    [Cell(120, 1, 0.1), Cell(40, 3, 0.3, alike=0.3), Cell(40, 3, 0.05, alike=0.8)],
    ids=str,
)
def test_looking_again_and_again_misses_the_rate_at_most_as_often_as_alpha(cell: Cell) -> None:
    # The gate's bound is the rate itself: whatever settles it is a false alarm. An interval for a
    # fixed number of runs would give several times as many.
    made = gates(200, cell, cell.rate, every=3)
    alarms = sum(one.verdict is not None for one in made)
    assert alarms <= 0.05 * len(made)


def test_the_least_likely_values_do_not_fool_it() -> None:
    # Half of the tasks hardly vary, the others are rare and large.
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        sequence = ConfidenceSequence()
        values = np.where(random.random(100) < 0.02, 1.0, random.choice([0.0, 0.1], 100))
        sides = []
        for start in range(0, 100, 5):
            sequence.add(values[start : start + 5].tolist())
            sides.append(sequence.side(0.02 + 0.98 * 0.05))
        alarms += any(sides)
    assert alarms <= 0.05 * 200


def test_an_interval_for_a_fixed_number_of_runs_would_alarm_far_too_often() -> None:
    values = np.random.default_rng(3).random((200, 120)) < 0.1
    looks = np.arange(1, 121)
    low, high = mid_p(np.cumsum(values, axis=1) / looks, looks)
    assert np.mean(((low > 0.1) | (high < 0.1)).any(axis=1)) > 0.1


@given(VALUES, st.floats(0, 1))
def test_the_side_of_a_bound_is_that_of_the_interval(values: list[float], bound: float) -> None:
    quick, slow = ConfidenceSequence(), ConfidenceSequence()
    quick.add(values)
    slow.add(values)
    low, high = slow.interval()
    if min(abs(bound - low), abs(bound - high)) > 1e-6:
        assert quick.side(bound) == slow.side(bound) == (bound < low) - (bound > high)


@given(VALUES, VALUES)
def test_an_interval_never_grows(first: list[float], second: list[float]) -> None:
    sequence = ConfidenceSequence()
    assert sequence.interval() == (0.0, 1.0)
    sequence.add(first)
    low, high = sequence.interval()
    sequence.add(second)
    later = sequence.interval()
    assert 0.0 <= low <= later[0]
    assert later[1] <= high <= 1.0
    assert sequence.count == len(first) + len(second)


@given(VALUES)
def test_failures_are_successes_seen_from_the_other_side(values: list[float]) -> None:
    one, other = ConfidenceSequence(), ConfidenceSequence()
    one.add(values)
    other.add([1.0 - value for value in values])
    low, high = one.interval()
    assert other.interval() == (pytest.approx(1 - high, abs=1e-6), pytest.approx(1 - low, abs=1e-6))


def test_intervals_close_in_on_the_mean() -> None:
    values = np.random.default_rng(2).random(100_000) < 0.2
    sequence = ConfidenceSequence()
    widths = []
    for part in np.split(values, [100, 1_000, 10_000]):
        sequence.add(part.astype(float).tolist())
        low, high = sequence.interval()
        assert low < 0.2 < high
        widths.append(high - low)
    assert all(later < earlier / 2 for earlier, later in pairwise(widths))
    assert widths[-1] < 0.015


def test_values_that_hardly_vary_say_more() -> None:
    steady, wild = ConfidenceSequence(), ConfidenceSequence()
    steady.add([0.4, 0.6] * 50)
    wild.add([0.0, 1.0] * 50)
    (low, high), (wild_low, wild_high) = steady.interval(), wild.interval()
    assert high - low < 0.5 * (wild_high - wild_low)


def test_a_single_round_spends_all_of_alpha() -> None:
    rounds, plain = RoundSequence(1, 0.05), ConfidenceSequence(0.05)
    for values in ([1.0, 0.0], [0.0] * 20):
        rounds.add(0, values)
        plain.add(values)
        assert rounds.interval() == plain.interval()


def test_rounds_meet_in_what_none_of_them_excludes() -> None:
    rounds = RoundSequence(3)
    rounds.add(0, [0.0, 1.0] * 50)
    first = rounds.interval()
    rounds.add(1, [0.5] * 100)
    low, high = rounds.interval()
    assert first[0] < low < 0.5 < high < first[1]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha between 0 and 1, not 0"):
        ConfidenceSequence(0)
    with pytest.raises(ValueError, match="one round at least, not 0"):
        RoundSequence(0)
    with pytest.raises(ValueError, match=r"not 1\.5"):
        ConfidenceSequence().add([1.5])
    with pytest.raises(ValueError, match="not nan"):
        ConfidenceSequence().add([float("nan")])
    with pytest.raises(IndexError):
        RoundSequence(1).add(1, [0.0])
