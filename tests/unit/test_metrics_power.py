from __future__ import annotations

import numpy as np
import pytest

from pytest_siren.metrics.estimates import estimate
from pytest_siren.metrics.power import more_runs


def outcomes(successes: int, tasks: int) -> np.ndarray:
    return (np.arange(tasks) < successes).astype(np.float64)


@pytest.mark.parametrize(
    ("successes", "tasks", "bound"), [(30, 100, 0.25), (8, 100, 0.1), (0, 20, 0.1)]
)
def test_so_many_more_runs_decide_if_the_rate_stays(
    successes: int, tasks: int, bound: float
) -> None:
    found = estimate(outcomes(successes, tasks), runs=tasks)
    more = more_runs(found, bound)
    assert more is not None
    assert found.low <= bound <= found.high
    times = (tasks + more) / tasks
    for share, clear in ((1.05, True), (0.9, False)):
        grown = round(tasks * times * share)
        later = estimate(outcomes(round(grown * successes / tasks), grown), runs=grown)
        assert (not later.low <= bound <= later.high) is clear


def test_more_runs_are_more_tasks_of_as_many_runs() -> None:
    few = estimate(outcomes(30, 100), runs=100)
    alike = estimate(outcomes(30, 100), runs=500)
    needed, of_all_alike = more_runs(few, 0.25), more_runs(alike, 0.25)
    assert needed is not None
    assert of_all_alike is not None
    assert of_all_alike == pytest.approx(5 * needed, rel=0.1)


def test_nothing_is_needed_where_it_is_decided_already() -> None:
    assert more_runs(estimate(outcomes(30, 100), runs=100), 0.6) == 0
    assert more_runs(estimate(outcomes(30, 100), runs=100), 0.1) == 0


def test_no_number_decides_between_a_rate_and_itself() -> None:
    found = estimate(outcomes(30, 100), runs=100)
    assert more_runs(found, found.value) is None
    assert more_runs(found, found.value + 1e-7) is None
    assert more_runs(estimate(outcomes(0, 100), runs=100), 0.0) is None
