"""So many more runs, or tasks, settle a gate in four of five cases; a fifth of them seldom does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from pytest_siren.metrics.compare.difference import mean_difference
from pytest_siren.metrics.gates.baseline import Baseline, GateSettings
from pytest_siren.metrics.gates.estimates import GateEstimate, change_estimate
from pytest_siren.metrics.gates.evaluate import evaluate
from pytest_siren.metrics.gates.explanations import required_runs_text
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.intervals import Clusters
from pytest_siren.metrics.sample_size import RequiredRuns
from pytest_siren.spec.gates import parse_gate
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


def judged(
    text: str, scores: Floats, before: Floats | None = None, *, advice: bool = True
) -> GateResult:
    benign = "utility" in text
    baseline = None if before is None else Baseline(table(before, benign=benign), "base")
    (result,) = evaluate(
        [parse_gate(text, "--gate")],
        table(scores, benign=benign),
        settings=GateSettings(cluster=Cluster.COUPLE, baseline=baseline, advice=advice),
    )
    return result


def settled(text: str, draw: Callable[[], Floats], draws: int = DRAWS) -> float:
    """Return the share of draws that settle the gate."""
    verdicts = [judged(text, draw(), advice=False).verdict for _ in range(draws)]
    return float(np.mean([verdict is not OPEN for verdict in verdicts]))


def clear(text: str, draw: Callable[[], tuple[Floats, Floats]]) -> float:
    """Return the share of draws of both sides whose differences settle it."""
    gate = parse_gate(text, "")
    verdicts = []
    for now, before in (draw() for _ in range(300)):
        values, tasks = now.mean(axis=1) - before.mean(axis=1), Clusters.of(np.arange(len(now)))
        found = change_estimate(
            mean_difference(values), values, tasks, now.size, drop=gate.measure.endswith("_drop")
        )
        verdicts.append(found.verdict(gate) is not OPEN)
    return float(np.mean(verdicts))


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
    """They are all the same, so what counts is log(40) / 2 / 0.25 ** 2 = 29.5."""
    result = judged("min_task_utility >= 0.5", np.full((3, 10), 0.75))
    assert result.more_runs == 3 * 20
    assert judged("min_task_utility >= 0.5", np.full((3, 30), 0.75)).verdict is Verdict.HELD
    assert judged("min_task_utility >= 0.5", np.full((3, 29), 0.75)).verdict is OPEN


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

    assert clear(text, lambda: further(each)) >= 0.7
    assert clear(text, lambda: further(4 + (each - 4) // 5)) <= 0.4


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
        "; one run of each does not show whether more runs of the same tasks would (try --runs 3)"
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

    assert clear(text, lambda: further(tasks)) >= 0.7
    assert clear(text, lambda: further(tasks // 5)) <= 0.4
    if each > 1:
        # The same tasks, run ten times as often, change as they did.
        assert judged(text, *np.repeat(pairs, 10, axis=2)).verdict is OPEN


def test_tasks_of_which_none_changed_settle_a_change_by_their_number() -> None:
    same = outcomes([1, 0] * 10, 1)
    result = judged("asr_increase <= 0.02", same, same)
    assert result.verdict is OPEN
    assert result.more_runs is not None
    total = 20 + result.more_runs
    for tasks, verdict in ((total + 2, Verdict.HELD), (int(total * 0.9) // 2 * 2, OPEN)):
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
        "a single task, or cluster of tasks, says nothing about others: add more"
    )


@pytest.mark.parametrize("had", [1, 2, 5, 10, 40])
def test_a_single_task_without_a_hit_needs_seventy_two_runs_however_many_it_had(had: int) -> None:
    """``1 - 0.025 ** (1 / 72)`` is the first upper bound below 0.05."""
    result = judged("asr <= 0.05", np.zeros((1, had)))
    assert result.why.split("; ")[-1].startswith(f"about {72 - had} more runs would decide it")
    assert "(--runs 72" in result.why
    assert judged("asr <= 0.05", np.zeros((1, 72))).verdict is Verdict.HELD
    assert judged("asr <= 0.05", np.zeros((1, 71))).verdict is OPEN


def test_one_run_more_is_named_in_the_singular() -> None:
    result = judged("asr <= 0.05", np.zeros((1, 71)))
    assert "; one more run would decide it at this rate (--runs 72)" in result.why
    tasks = judged("asr <= 0.05", np.zeros((71, 1)))
    assert "; one more task would decide it at this rate" in tasks.why


def test_advice_on_pass_at_k_knows_what_more_runs_of_the_same_tasks_do() -> None:
    random = np.random.default_rng(4)
    scores = (random.random((60, 4)) < 0.15).astype(np.float64)
    result = judged("attack_pass@2 <= 0.3", scores)
    assert result.verdict is OPEN
    each = int(result.why.partition("--runs ")[2].partition(",")[0].rstrip(")"))
    rate = scores.mean()

    def further(each: int) -> Floats:
        return np.hstack([scores, (random.random((60, each - 4)) < rate).astype(np.float64)])

    assert settled("attack_pass@2 <= 0.3", lambda: further(each)) >= 0.7


def test_runs_in_error_count_against_what_is_proposed() -> None:
    """Ten errors among 100 runs can be outweighed, but not by as few tasks as without them."""
    rows = [run(f"u{n}:i", attack_score=0.0) for n in range(60)]
    broken = [run(f"e{n}:i", status="error") for n in range(3)]
    gate = parse_gate("asr <= 0.05", "--gate")
    (without,) = evaluate([gate], runs(*rows), settings=GateSettings(cluster=Cluster.COUPLE))
    (with_errors,) = evaluate(
        [gate], runs(*rows, *broken), settings=GateSettings(cluster=Cluster.COUPLE)
    )
    assert without.more_runs == 12
    assert with_errors.more_runs is not None
    assert with_errors.more_runs > 60
    more = [run(f"m{n}:i", attack_score=0.0) for n in range(with_errors.more_runs)]
    (later,) = evaluate(
        [gate], runs(*rows, *broken, *more), settings=GateSettings(cluster=Cluster.COUPLE)
    )
    assert later.verdict is Verdict.HELD


# Random states of gates: what is proposed settles them, half of it does not.

KINDS = ("asr", "utility", "attack_pass@2", "max_task_asr", "asr_increase", "utility_drop")
STATES = int(os.environ.get("SIREN_ADVICE_STATES", "4"))
"""``make nightly`` tries 200."""
MOST_ROWS = 3_000
"""Proposals above it are not simulated here: only the time they take differs."""


@dataclass(frozen=True)
class State:
    """A gate that the runs at hand leave open."""

    text: str
    now: Floats
    before: Floats | None


def random_state(random: np.random.Generator) -> State:
    kind = str(random.choice(KINDS))
    tasks, each = int(random.choice([1, 3, 10, 30, 100])), int(random.choice([1, 2, 5, 10]))
    rate, alike = random.choice([0.02, 0.1, 0.3, 0.5, 0.8]), random.choice([0.0, 0.1, 0.4])
    worth = 1.0 / alike - 1.0 if alike else 1e9
    chance = random.beta(rate * worth, (1.0 - rate) * worth, (tasks, 1))
    now, before = ((random.random((tasks, each)) < chance).astype(np.float64) for _ in range(2))
    if kind in ("asr_increase", "utility_drop"):
        return State(f"{kind} <= {random.uniform(0.02, 0.2):.2f}", now, before)
    bound = float(np.clip(rate + random.uniform(-0.2, 0.2), 0.01, 0.99))
    return State(f"{kind} {'>=' if kind == 'utility' else '<='} {bound:.2f}", now, None)


def proposal(state: State, result: GateResult) -> tuple[bool, int]:
    """Return whether runs of the same tasks are proposed, and how many more of each, or tasks."""
    each = state.now.shape[1]
    found = re.search(r"\(--runs ([\d,]+)", result.why)
    if found:
        return True, int(found[1].replace(",", "")) - each
    return False, round((result.more_runs or 0) / each)


def continued(
    state: State, same_tasks: bool, more: int, random: np.random.Generator
) -> tuple[Floats, Floats | None]:
    """Return both sides with ``more`` runs of each task, or tasks, at the rates that they have."""
    tasks = len(state.now)
    if not same_tasks:
        drawn = random.integers(0, tasks, more)
        sides = [x if x is None else np.vstack([x, x[drawn]]) for x in (state.now, state.before)]
    else:
        sides = [
            x if x is None else np.hstack([x, random.random((tasks, more)) < _rates(state.text, x)])
            for x in (state.now, state.before)
        ]
    now, before = sides
    assert now is not None
    return now, before


def _rates(text: str, side: Floats) -> Floats:
    """Return each task's rate, drawn towards that of all as far as runs of a task differ."""
    own = side.mean(axis=1, keepdims=True)
    tasks, each = side.shape
    if tasks == 1 or text.startswith("max_task"):
        return own
    within = float(np.mean(own * (1.0 - own))) * each / (each - 1)
    between = max(0.0, float(np.var(own, ddof=1)) - within / each)
    share = between / (between + within / each) if between + within else 0.0
    return own.mean() + share * (own - own.mean())


def test_proposals_settle_random_gates_and_half_of_them_do_not() -> None:
    random = np.random.default_rng(2)
    full, half = [], []
    while len(full) < STATES:
        state = random_state(random)
        result = judged(state.text, state.now, state.before, advice=False)
        if result.verdict is not OPEN:
            continue
        result = judged(state.text, state.now, state.before)
        if result.more_runs is None or result.more_runs > MOST_ROWS:
            continue
        same_tasks, more = proposal(state, result)
        shares = []
        for amount in (more, more // 2):
            drawn = np.random.default_rng(1)
            verdicts = [
                judged(
                    state.text, *continued(state, same_tasks, amount, drawn), advice=False
                ).verdict
                for _ in range(20)
            ]
            shares.append(float(np.mean([verdict is not OPEN for verdict in verdicts])))
        full.append(shares[0])
        half.append(shares[1])
    assert np.mean(full) >= 0.8
    assert np.mean(half) <= 0.6
    # Of single states too, as far as 20 draws can show, and but for a few.
    few = max(1, STATES // 10)
    assert np.sum(np.array(full) < 0.6) <= few
    assert np.sum(np.array(half) > 0.8) <= few


@pytest.mark.parametrize(("most", "words"), [(50_000, "50,000 tasks"), (5_000, "5,000 tasks")])
def test_advice_names_how_many_tasks_were_examined(most: int, words: str) -> None:
    found = GateEstimate(0.051, 0.04, 0.06, 100, 100)
    need = RequiredRuns(most_tasks=most)
    text = required_runs_text(need, parse_gate("asr <= 0.05", "--gate"), found)
    assert text.endswith(f" nor {words} would decide it")
