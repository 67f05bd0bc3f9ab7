"""So many more runs, or tasks, settle a gate on a rate in four of five cases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pytest_siren.metrics.estimates import Estimate, estimate
from pytest_siren.metrics.settling import Need
from pytest_siren.metrics.settling_rate import rate_need

Floats = npt.NDArray[np.float64]


def outcomes(successes: int, tasks: int) -> Floats:
    return (np.arange(tasks) < successes).astype(np.float64)


def clear(found: Estimate, bound: float) -> bool:
    return not found.low <= bound <= found.high


@pytest.mark.parametrize(
    ("successes", "tasks", "bound"), [(30, 100, 0.25), (8, 100, 0.1), (20, 30, 0.5)]
)
def test_so_many_more_tasks_decide_if_the_rate_stays(
    successes: int, tasks: int, bound: float
) -> None:
    had = outcomes(successes, tasks)
    found = estimate(had, runs=tasks)
    assert not clear(found, bound)
    need = rate_need(found, bound)
    assert need.tasks is not None
    assert (need.runs, need.each, need.repeated) == (need.tasks, None, False)
    random = np.random.default_rng(2)

    def share(more: int) -> float:
        drawn = random.random((400, more)) < found.value
        made = [estimate(np.r_[had, one], runs=tasks + more) for one in drawn.astype(np.float64)]
        return float(np.mean([clear(one, bound) for one in made]))

    assert 0.72 <= share(need.tasks) <= 0.9
    assert share(need.tasks // 5) <= 0.4


def test_where_none_succeeds_further_tasks_are_counted_exactly() -> None:
    need = rate_need(estimate(outcomes(0, 20), runs=20), 0.1)
    assert need.tasks is not None
    for off, enough in ((1, True), (-1, False)):
        later = estimate(outcomes(0, 20 + need.tasks + off), runs=20 + need.tasks + off)
        assert clear(later, 0.1) is enough


@pytest.mark.parametrize("alike", [0.0, 0.2])
def test_so_many_more_runs_of_the_same_tasks_decide(alike: float) -> None:
    random = np.random.default_rng(6)
    tasks, had, bound = 100, 4, 0.27
    spread = 1 / alike - 1 if alike else 0.0
    while True:
        chance = random.beta(0.3 * spread, 0.7 * spread, tasks) if alike else np.full(tasks, 0.3)
        first = random.binomial(had, chance)
        found = estimate(first / had, runs=tasks * had)
        if abs(found.value - 0.3) < 0.01 and not clear(found, bound):
            break
    need = rate_need(found, bound)
    if alike:
        # Runs of a task are worth five at most: more of them cannot do it.
        assert need.each is None
        assert need.repeated
        later = estimate((first + random.binomial(200, chance)) / (had + 200), runs=tasks * 204)
        assert not clear(later, bound)
        return
    assert need.each is not None
    assert need.runs == tasks * (need.each - had)
    added = random.binomial(need.each - had, found.value, (300, tasks))
    made = [estimate((first + one) / need.each, runs=tasks * need.each) for one in added]
    assert np.mean([clear(one, bound) for one in made]) >= 0.7


def test_runs_that_are_all_the_same_ask_for_as_many_more_tasks_as_single_ones() -> None:
    few = rate_need(estimate(outcomes(30, 100), runs=100), 0.25)
    alike = rate_need(estimate(outcomes(30, 100), runs=500), 0.25)
    assert few.tasks is not None
    assert alike.tasks == pytest.approx(few.tasks, rel=0.1)
    assert alike.runs == 5 * (alike.tasks or 0)
    assert alike.each is None


def test_a_single_task_is_told_to_have_more_runs() -> None:
    need = rate_need(estimate(np.array([0.3]), runs=10), 0.5)
    assert need.each is not None
    assert need.each == 10 + (need.runs or 0) > 20
    assert need.tasks is None


def test_what_more_runs_do_for_pass_at_k_is_not_guessed() -> None:
    need = rate_need(estimate(outcomes(30, 100), runs=500, k=5), 0.25, k=5)
    assert (need.each, need.repeated) == (None, None)
    assert need.tasks


def test_no_number_decides_between_a_rate_and_itself() -> None:
    found = estimate(outcomes(30, 100), runs=100)
    assert rate_need(found, found.value) == Need(repeated=False)
    assert rate_need(found, found.value + 1e-7).runs is None
    assert rate_need(estimate(outcomes(0, 100), runs=100), 0.0).runs is None
