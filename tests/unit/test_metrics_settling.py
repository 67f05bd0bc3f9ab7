"""So many more runs, or tasks, settle a gate in four of five cases; a fifth of them seldom does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from pytest_siren.metrics.difference import mean_difference
from pytest_siren.metrics.gates import Baseline, Judging, evaluate, parse_gate
from pytest_siren.metrics.verdicts import GateResult, Verdict
from tests.unit.gates_sample import run, runs

Floats = npt.NDArray[np.float64]

OPEN = Verdict.INCONCLUSIVE
DRAWS = 40


def table(scores: Floats, *, benign: bool = False) -> pd.DataFrame:
    """Return the runs of tasks that are rows, with the scores of their runs."""
    tasks, each = scores.shape
    name = "benign_score" if benign else "attack_score"
    rows = [run(f"u{n}" if benign else f"u{n}:i", k) for n in range(tasks) for k in range(each)]
    return runs(*rows).assign(**{name: scores.ravel()})


def judged(text: str, scores: Floats, before: Floats | None = None) -> GateResult:
    benign = "utility" in text
    baseline = None if before is None else Baseline(table(before, benign=benign), "base")
    (result,) = evaluate(
        [parse_gate(text, "--gate")],
        table(scores, benign=benign),
        judging=Judging(baseline=baseline),
    )
    return result


def settled(text: str, draw: Callable[[], Floats]) -> float:
    """Return the share of draws that settle the gate."""
    return float(np.mean([judged(text, draw()).verdict is not OPEN for _ in range(DRAWS)]))


def clear(bound: float, draw: Callable[[], tuple[Floats, Floats]]) -> float:
    """Return the share of draws of both sides whose interval of the difference settles it."""
    found = [now.mean(axis=1) - before.mean(axis=1) for now, before in (draw() for _ in range(300))]
    ends = [mean_difference(values) for values in found]
    return float(np.mean([not one.low <= bound <= one.high for one in ends]))


def outcomes(won: list[int], of: int) -> Floats:
    return (np.arange(of) < np.array(won)[:, None]).astype(np.float64)


def more_of(scores: Floats, each: int, random: np.random.Generator) -> Floats:
    """Return ``scores`` with further runs of each task at its present rate, ``each`` in all."""
    tasks, had = scores.shape
    chance = scores.mean(axis=1, keepdims=True)
    return np.hstack([scores, (random.random((tasks, each - had)) < chance).astype(np.float64)])


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("max_task_asr <= 0.5", outcomes([3, 2, 1, *[0] * 17], 10)),
        ("max_task_asr <= 0.5", outcomes([7, 2, 1, *[0] * 17], 10)),
        ("min_task_utility >= 0.6", outcomes([9, 9, 8, *[10] * 7], 10)),
    ],
    ids=["below", "above", "lowest"],
)
def test_so_many_runs_of_each_task_settle_a_gate_on_the_worst(text: str, scores: Floats) -> None:
    result = judged(text, scores)
    assert result.verdict is OPEN
    assert result.more_runs is not None
    each = scores.shape[1] + result.more_runs // len(scores)
    assert f"more runs would decide it at these rates (--runs {each})" in result.why
    random = np.random.default_rng(5)
    assert settled(text, lambda: more_of(scores, each, random)) >= 0.7
    fifth = scores.shape[1] + result.more_runs // len(scores) // 5
    assert settled(text, lambda: more_of(scores, fifth, random)) <= 0.4


def test_a_worst_task_of_one_run_needs_as_many_as_an_exact_bound_does() -> None:
    """No success in six runs leaves less than one half, in five it does not (0.025 ** (1 / n))."""
    result = judged("max_task_asr <= 0.5", outcomes([0] * 9, 1))
    assert result.more_runs == 9 * 5
    assert result.why.endswith("about 45 more runs would decide it at these rates (--runs 6)")


def test_fractional_scores_need_as_many_runs_as_hoeffding_says() -> None:
    scores = np.full((3, 10), 0.75)
    result = judged("min_task_utility >= 0.5", scores)
    assert result.more_runs is not None
    each = 10 + result.more_runs // 3
    # All the same would need log(40) / 2 / 0.25 ** 2 = 29.5; but outcomes may be of 0 and 1.
    assert 40 <= each <= 70
    assert judged("min_task_utility >= 0.5", np.full((3, each), 0.75)).verdict is Verdict.HELD


def test_a_worst_rate_that_is_the_bound_is_never_settled() -> None:
    result = judged("max_task_asr <= 0.5", outcomes([5, 0], 10))
    assert result.more_runs is None
    assert result.why.endswith(
        "what was measured is the bound itself, so no number of runs is likely to decide it"
    )


def sides(
    random: np.random.Generator, tasks: int, each: int, rate: float, change: float, alike: bool
) -> tuple[Floats, Floats]:
    """Return scores now and before: all runs of a task the same, or all independent."""
    shape = (tasks, 1 if alike else each)
    draws = [random.random(shape) for _ in range(2)]
    before, now = draws[0] < rate, draws[1] < rate + change
    full = np.ones((1, each))
    return now * full, before * full


def test_more_runs_of_the_same_tasks_settle_a_change_that_is_noise_within_tasks() -> None:
    random = np.random.default_rng(3)
    text = "asr_increase <= 0.1"
    now, before = sides(random, 60, 4, 0.4, 0.03, alike=False)
    result = judged(text, now, before)
    assert result.verdict is OPEN
    assert result.more_runs is not None
    each = 4 + result.more_runs // 60
    assert "more pairs of runs would decide it at this change (--runs " in result.why
    assert f"(--runs {each} on both sides, or about " in result.why
    assert result.value is not None
    change = result.value

    def further(each: int) -> tuple[Floats, Floats]:
        later, earlier = sides(random, 60, each - 4, 0.4, change, alike=False)
        return np.hstack([now, later]), np.hstack([before, earlier])

    assert clear(0.1, lambda: further(each)) >= 0.7
    assert clear(0.1, lambda: further(4 + (each - 4) // 5)) <= 0.4


@pytest.mark.parametrize("each", [1, 3])
def test_only_more_tasks_settle_a_change_that_differs_between_tasks(each: int) -> None:
    random = np.random.default_rng(8)
    text = "utility_drop <= 0.1"
    now, before = sides(random, 60, each, 0.6, -0.02, alike=True)
    result = judged(text, now, before)
    assert result.verdict is OPEN
    assert result.more_runs is not None
    known = "; more runs of the same tasks would not"
    unknown = (
        "; whether more runs of the same ones would, one run of each cannot tell (try --runs 3)"
    )
    assert result.why.endswith(
        "more tasks would decide it at this change, on both sides" + (unknown, known)[each > 1]
    )
    tasks = result.more_runs // each
    assert result.value is not None
    pairs = np.stack([now, before])

    def further(tasks: int) -> tuple[Floats, Floats]:
        more = pairs[:, random.integers(0, 60, tasks)]
        later, earlier = np.concatenate([pairs, more], axis=1)
        return later, earlier

    assert clear(-0.1, lambda: further(tasks)) >= 0.7
    assert clear(-0.1, lambda: further(tasks // 5)) <= 0.4
    if each > 1:
        # The same tasks, run ten times as often, change as they did.
        assert judged(text, *np.repeat(pairs, 10, axis=2)).verdict is OPEN


def test_tasks_of_which_none_changed_settle_a_change_by_their_number() -> None:
    same = outcomes([1, 0] * 10, 1)
    result = judged("asr_increase <= 0.02", same, same)
    assert result.verdict is OPEN
    assert result.more_runs is not None
    total = 20 + result.more_runs
    for tasks, verdict in ((total + 2, Verdict.HELD), (total - 20, OPEN)):
        later = outcomes([1, 0] * (tasks // 2), 1)
        assert judged("asr_increase <= 0.02", later, later).verdict is verdict


def test_a_change_that_is_the_bound_is_never_settled() -> None:
    same = outcomes([1, 0] * 10, 2)
    result = judged("noninferior(utility, 0)", same, same)
    assert (result.verdict, result.more_runs) == (OPEN, None)
    assert "what was measured is the bound itself" in result.why


def test_one_task_says_nothing_of_changes_in_others() -> None:
    result = judged("asr_increase <= 0.1", np.zeros((1, 5)), np.zeros((1, 5)))
    assert (result.verdict, result.more_runs) == (OPEN, None)
    assert result.why.endswith(
        "a single task, or cluster of them, tells nothing of others: take more"
    )
