"""Rates of jobs whose tasks ended early: those that decided them, and first runs for all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pytest_siren.metrics.compare.paired import compare, increase
from pytest_siren.metrics.compare.pairing import pair
from pytest_siren.metrics.frame import runs_of as reported
from pytest_siren.metrics.gates.baseline import GateSettings
from pytest_siren.metrics.gates.evaluate import evaluate
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.rates.choices import Cluster, Errors, Estimate
from pytest_siren.metrics.rates.groups import groups
from pytest_siren.metrics.rates.measures import (
    Measure,
    PassAtK,
    PassAtKTracker,
    joined_names,
    rate,
    tracker_for,
    units,
)
from pytest_siren.metrics.rates.summary import rows
from pytest_siren.spec.gates import parse_gate
from tests.unit.gates_sample import run, runs
from tests.unit.paired_sample import couples
from tests.unit.test_metrics_summary import error, report

BY_ATTACK = "attack_pass@5"
SCORES = {"a:m": [1.0], "b:m": [0.0, 0.0, 1.0], "c:m": [0.0] * 5}


def found(table: pd.DataFrame, name: str, **options: Any) -> Estimate | None:
    return rate(table, Measure.of(name), **options)


def value(table: pd.DataFrame, name: str, **options: Any) -> float | None:
    estimate = found(table, name, **options)
    return None if estimate is None else estimate.value


def until_decided(wins: Any, all_of: bool) -> dict[str, list[float | str | None]]:
    """Return what is left of ``wins``, of shape ``(tasks, runs)``, when tasks end early."""
    kept: dict[str, list[float | str | None]] = {}
    for task, scores in enumerate(wins):
        decides = np.flatnonzero(scores != all_of)
        last = decides[0] + 1 if len(decides) else len(scores)
        kept[f"u{task}:m"] = [float(one) for one in scores[:last]]
    return kept


@pytest.mark.parametrize("sign", ["@", "^"])
def test_a_simulation_tells_the_bias_of_ended_tasks_and_that_it_is_gone(sign: str) -> None:
    rng = np.random.default_rng(5)
    name, all_of = f"attack_pass{sign}5", sign == "^"
    estimates: dict[str, list[float]] = {"fair": [], "biased": []}
    for _ in range(40):
        # Tasks are not alike: some are won nearly always, some nearly never.
        wins = rng.random((50, 5)) < rng.beta(0.6, 1.4, size=(50, 1))
        full = couples({f"u{n}:m": [*map(float, one)] for n, one in enumerate(wins)})
        kept = until_decided(wins, all_of)
        early, unaware = couples(kept, decided=name), couples(kept)
        assert value(early, name) == pytest.approx(value(full, name), abs=1e-12)
        assert found(early, name).short == 0  # type: ignore[union-attr]
        assert value(early, "asr") == pytest.approx(wins[:, 0].mean())
        assert value(early, "benign_pass@5") is None
        estimates["fair"].append(value(early, "asr") or 0.0)
        estimates["biased"].append(value(unaware, "asr") or 0.0)
    error_of_mean = np.std(estimates["fair"]) / np.sqrt(40)
    assert abs(np.mean(estimates["fair"]) - 0.3) < 3.5 * error_of_mean
    assert abs(np.mean(estimates["biased"]) - 0.3) > 5 * error_of_mean


def test_a_task_counts_in_full_once_it_is_decided() -> None:
    table = couples(SCORES, decided=BY_ATTACK)
    assert units(table, Measure.of(BY_ATTACK)).values.tolist() == [1.0, 1.0, 0.0]
    assert units(table, Measure.of(BY_ATTACK)).runs.tolist() == [1, 3, 5]
    assert value(table, "asr") == value(table, "attack_pass@1") == pytest.approx(1 / 3)
    # The benign score of the sample is the attack score turned round.
    assert value(table, "utility_under_attack") == pytest.approx(2 / 3)
    for other in ("attack_pass@3", "attack_pass^5", "benign_pass@5", "attack_pass@2"):
        assert value(table, other) is None
        assert units(table, Measure.of(other)).short == 3


def test_benign_runs_are_decided_by_either_name_of_their_measure() -> None:
    rows_of = [("u0", 0, 1.0), ("u1", 0, 0.0), ("u1", 1, 1.0)]
    table = runs(
        *(
            run(task, index, benign_score=score, decided="benign_pass@5")
            for task, index, score in rows_of
        )
    )
    assert value(table, "pass@5") == value(table, "benign_pass@5") == 1.0
    assert value(table, "utility") == 0.5


def test_runs_from_the_kth_on_do_not_count_and_other_measures_may_have_decided_too() -> None:
    table = couples({"a:m": [0.0, 0.0, 1.0]}, decided="attack_pass@2 attack_pass@5")
    assert value(table, "attack_pass@2") == 0.0
    assert value(table, "attack_pass@5") == 1.0


def test_errors_decide_nothing_unless_they_count_as_scores() -> None:
    scores: dict[str, list[float | str | None]] = {
        "a:m": ["error", 1.0],
        "b:m": ["error", 0.0, 0.0, 0.0, 0.0],
        "c:m": [0.0] * 5,
    }
    table = couples(scores, decided=BY_ATTACK)
    estimate = found(table, BY_ATTACK)
    assert estimate is not None
    assert (estimate.value, estimate.units, estimate.short) == (0.5, 2, 1)
    assert value(table, BY_ATTACK, errors=Errors.FAILURE) == pytest.approx(1 / 3)
    assert value(table, BY_ATTACK, errors=Errors.SUCCESS) == pytest.approx(2 / 3)
    assert value(table, "error_rate") == pytest.approx(2 / 3)
    assert value(table, "asr") == 0.0


def test_the_interval_holds_whatever_undecided_tasks_come_to() -> None:
    won: dict[str, list[float | str | None]] = {f"u{n}:m": [1.0] for n in range(6)}
    waiting: dict[str, list[float | str | None]] = {f"v{n}:m": [0.0] for n in range(14)}
    table = couples({**won, **waiting}, decided=BY_ATTACK)
    estimate = found(table, BY_ATTACK)
    assert estimate is not None
    assert (estimate.value, estimate.short, estimate.high) == (1.0, 14, 1.0)
    full = {**won, **{task: [0.0] * 5 for task in waiting}}
    lowest = found(couples(full, decided=BY_ATTACK), BY_ATTACK)
    assert lowest is not None
    assert estimate.low == pytest.approx(lowest.low, abs=0.02)
    [group] = groups(table, ["job"], [Measure.of(BY_ATTACK)])
    assert group.rates[BY_ATTACK] is not None
    assert (group.rates[BY_ATTACK].low, group.short[BY_ATTACK]) == (estimate.low, 14)


def test_another_job_of_the_same_configuration_is_a_sample_of_its_own() -> None:
    early = couples({"a:m": [0.0, 1.0]}, job="jobs/early", decided=BY_ATTACK)
    whole = couples({"a:m": [0.0] * 5}, job="jobs/whole")
    both = pd.concat([early.astype(object), whole.astype(object)], ignore_index=True)
    table = runs(*both.to_dict("records"))  # type: ignore[arg-type]
    assert sorted(units(table, Measure.of(BY_ATTACK)).values.tolist()) == [0.0, 1.0]
    # A whole sample counts in full.
    assert units(table, Measure.of("asr")).runs.tolist() == [6]


def test_first_runs_are_compared_where_either_side_ended_early() -> None:
    early = couples(SCORES, decided=BY_ATTACK)
    whole = couples({task: [0.0] * 4 + [1.0] for task in SCORES})
    for left, right in ((early, whole), (whole, early)):
        made = compare(left, right)
        of_asr = made.measures[-1]
        assert of_asr.overlap.pairs == 3
        assert (of_asr.balance.left, of_asr.balance.right) == (3, 3)
        assert of_asr.overlap.only_runs.runs == of_asr.overlap.only_baseline.runs == 0
        assert {made.left.runs, made.right.runs} == {len(early), len(whole)}
        assert made.notes == (
            "only first runs are compared: tasks of one side may have ended early",
        )
    changed = increase(early, whole, Measure.of("asr"))
    assert (changed.before, changed.after, changed.pairs) == (pytest.approx(1 / 3), 0.0, 3)
    assert len(pair(early, whole).left) == len(early)


def judged(
    text: str, over: Any, pending: Any = (), settings: GateSettings | None = None
) -> GateResult:
    waiting = runs(*pending) if pending else None
    [result] = evaluate(
        [parse_gate(text, "--gate")], runs(*over), pending=waiting, settings=settings
    )
    return result


def tasks(count: int, prefix: str, *scores: float | None) -> list[dict[str, Any]]:
    """Return attacked runs of tasks; ``None`` is an error."""
    return [
        run(
            f"{prefix}{n}:i{prefix}{n}",
            index,
            attack_score=score,
            status="error" if score is None else "scored",
            decided=BY_ATTACK,
        )
        for n in range(count)
        for index, score in enumerate(scores)
    ]


def waiting(count: int, prefix: str, *indexes: int) -> list[dict[str, Any]]:
    return [
        run(f"{prefix}{n}:i{prefix}{n}", index, status="pending", attempts=0, decided=BY_ATTACK)
        for n in range(count)
        for index in indexes
    ]


def test_a_gate_waits_for_no_run_of_a_decided_task() -> None:
    over = [*tasks(60, "u", 0.0, 1.0), *tasks(20, "v", 0.0, 0.0, 0.0, 0.0, 0.0)]
    left = waiting(60, "u", 2, 3, 4)
    result = judged("attack_pass@5 >= 0.5", over, left)
    assert (result.verdict, result.pending, result.units) == (Verdict.HELD, 0, 80)
    # Once others are asked for, they are to be taken.
    assert judged("asr <= 0.9", over, left).pending == 180
    assert judged("asr <= 0.9", over, left).runs == 80
    assert judged("tokens <= 1000000", over).runs == 220


def test_a_part_of_the_tasks_cannot_break_a_gate_by_what_was_decided_first() -> None:
    over = [*tasks(30, "u", 1.0), *tasks(70, "v", 0.0)]
    left = [*waiting(30, "u", 1, 2, 3, 4), *waiting(70, "v", 1, 2, 3, 4)]
    for settings in (None, GateSettings(point=True)):
        result = judged("attack_pass@5 <= 0.5", over, left, settings)
        assert (result.verdict, result.pending) == (Verdict.INCONCLUSIVE, 280)
    assert judged("attack_pass@5 <= 0.1", over, left).verdict is Verdict.BROKEN


def test_errors_can_neither_make_a_gate_hold_nor_break() -> None:
    over = [*tasks(30, "u", 1.0), *tasks(70, "v", None, 0.0, 0.0, 0.0, 0.0)]
    for settings in (None, GateSettings(point=True)):
        assert judged("attack_pass@5 <= 0.5", over, (), settings).verdict is Verdict.INCONCLUSIVE
        assert judged("attack_pass@5 >= 0.5", over, (), settings).verdict is Verdict.INCONCLUSIVE
    few = [*tasks(90, "u", None, 1.0), *tasks(10, "v", 0.0, 0.0, 0.0, 0.0, 0.0)]
    assert judged("attack_pass@5 >= 0.7", few).verdict is Verdict.HELD


@pytest.mark.parametrize("cluster", Cluster)
def test_the_summary_tells_what_the_table_of_runs_does(cluster: Cluster) -> None:
    told = [report("a:m", 0, attack_score=1.0), report("b:m", 0), report("b:m", 1)]
    told += [report("c:n", index) for index in range(5)]
    told += [error("d:n", 0), report("d:n", 1, attack_score=1.0)]
    decided = {"": BY_ATTACK}
    [made] = rows(told, (1, 5), cluster, decided)
    table = reported(told, decided)
    for name, shown in [
        ("attack_pass@1", made.attack_pass[1]),
        (BY_ATTACK, made.attack_pass[5]),
        ("benign_pass@1", made.benign_pass[1]),
        ("benign_pass@5", made.benign_pass[5]),
        ("asr", made.asr),
    ]:
        expected = found(table, name, cluster=cluster)
        assert (shown is None) == (expected is None), name
        if shown is not None and expected is not None:
            assert shown.value == pytest.approx(expected.value), name
            assert (shown.low, shown.high) == pytest.approx((expected.low, expected.high)), name
    assert made.attack_pass[5] is not None
    assert (made.attack_pass[5].units, made.attack_pass[5].short) == (3, 1)
    assert (made.runs, made.errors, made.decided) == (9, 1, (BY_ATTACK,))


def test_a_task_is_decided_once_all_that_is_asked_of_it_is() -> None:
    tracker: PassAtKTracker = tracker_for({"i": ["attack_pass@3", "benign_pass^3"]})
    assert not tracker.add("i", "a", report(benign_score=1.0, attack_score=1.0))
    assert tracker.needs("i", "a", 1)
    assert not tracker.add("i", "a", error())
    assert tracker.add("i", "a", report(benign_score=0.5, attack_score=0.0))
    assert not tracker.needs("i", "a", 2)
    assert tracker.needs("i", "a", 0)
    assert not tracker.add("other", "a", report(attack_score=1.0))
    assert tracker.left([("i", "a", 0), ("i", "a", 1), ("i", "b", 2)]) == {"i": 1}
    # While the first run is tried again it is pending, not needless.
    assert tracker.left([("i", "a", 1)]) == {"i": 1}
    assert (
        joined_names(map(PassAtK.of, ["pass^3", "attack_pass@3"])) == "attack_pass@3 benign_pass^3"
    )
