"""Verdicts on gates are wrong as rarely as they say, whatever tasks are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pytest_siren.metrics.betting import evidence_of_clusters, evidence_of_couples
from pytest_siren.metrics.compare.difference import mean_difference
from pytest_siren.metrics.gates.baseline import Baseline, GateSettings
from pytest_siren.metrics.gates.estimates import change_estimate, gate_estimate
from pytest_siren.metrics.gates.evaluate import evaluate, family_level
from pytest_siren.metrics.gates.result import GateResult, Verdict
from pytest_siren.metrics.rates.choices import Cluster, Correction
from pytest_siren.metrics.rates.groups import groups
from pytest_siren.metrics.rates.intervals import Clusters, estimate
from pytest_siren.metrics.rates.measures import Measure
from pytest_siren.spec.gates import Gate, parse_gate
from tests.unit.gates_sample import run, runs

Floats = npt.NDArray[np.float64]

HELD, BROKEN, OPEN = Verdict.HELD, Verdict.BROKEN, Verdict.INCONCLUSIVE


def judged(texts: list[str], rows: list[dict[str, Any]], **settings: Any) -> list[GateResult]:
    gates = [parse_gate(text, "--gate") for text in texts]
    how = GateSettings(cluster=Cluster.COUPLE, advice=False, **settings)
    return evaluate(gates, runs(*rows), settings=how)


def mixture(
    random: np.random.Generator, tasks: int, each: int, always: float, otherwise: float
) -> Floats:
    """Return rates of tasks of which a share always succeeds and the rest as often as given."""
    chances = np.where(random.random(tasks) < always, 1.0, otherwise)
    return random.binomial(each, chances) / each


@pytest.mark.parametrize(("tasks", "each"), [(50, 20), (97, 5), (50, 5)])
def test_rare_tasks_that_always_fall_do_not_make_a_gate_hold(tasks: int, each: int) -> None:
    """Intervals from the variance alone were below the bound in up to 40 % of these."""
    random, truth, codes = np.random.default_rng(tasks), 0.02 + 0.98 * 0.01, np.arange(tasks)
    gate = Gate("", "", "asr", (), "<=", truth)
    found = {HELD: 0, BROKEN: 0, OPEN: 0}
    for _ in range(200):
        values = mixture(random, tasks, each, 0.02, 0.01)
        made = estimate(values, runs=tasks * each)
        found[gate_estimate(made, values, Clusters.of(codes)).verdict(gate)] += 1
    assert found[HELD] <= 10
    assert found[BROKEN] <= 10


def test_rare_tasks_that_always_change_do_not_make_a_gate_hold() -> None:
    random, codes = np.random.default_rng(5), np.arange(50)
    gate = Gate("", "", "asr_increase", (), "<=", 0.02 * 0.99)
    held = 0
    for _ in range(200):
        values = mixture(random, 50, 20, 0.02, 0.01) - mixture(random, 50, 20, 0.0, 0.01)
        made = change_estimate(mean_difference(values), values, Clusters.of(codes), 1_000)
        held += made.verdict(gate) is HELD
    assert held <= 10


def test_a_gate_that_the_interval_alone_would_decide_says_what_is_missing() -> None:
    rows = [
        run(f"u{task}:i", index=index, attack_score=float(index == 0 and task < 20))
        for task in range(100)
        for index in range(20)
    ]
    [result] = judged(["asr <= 0.04"], rows)
    assert result.verdict is OPEN
    assert (
        "is wholly at or below 0.040, but a few tasks that always, or never, succeed may not have "
        "been drawn: only 0.005 to 0.053 is shown"
    ) in result.why
    [result] = judged(["asr <= 0.06"], rows)
    assert result.verdict is HELD


def test_one_run_of_each_task_needs_no_further_proof() -> None:
    rows = [run(f"u{task}:i", attack_score=float(task < 4)) for task in range(200)]
    [result] = judged(["asr <= 0.051"], rows)
    assert result.verdict is HELD


def test_values_of_couples_without_a_shared_task_are_evidence() -> None:
    """Two suites, one with a single malicious task, which counts as one observation."""
    benign = np.concatenate([np.repeat(np.arange(12), 5), 12 + np.arange(20)])
    malicious = np.concatenate([np.tile(np.arange(5), 12), np.full(20, 5)])
    suites = np.repeat([0, 1], [60, 20])
    found = evidence_of_couples(np.zeros(80), benign, malicious, suites)
    assert found.values.shape == (32, 6)
    # 20 couples stand behind one of the second suite, and 12 behind each of the first.
    assert found.weights[0] == pytest.approx([0.6] * 5 + [1.0])
    assert found.interval()[1] > 0.5
    some = np.delete(np.arange(60), [7, 20])
    holes = evidence_of_couples(np.zeros(58), benign[some], malicious[some], suites[some])
    assert holes.values.shape == (32, 5)
    alone = evidence_of_couples(np.zeros(9), np.arange(9), np.arange(9), np.zeros(9, dtype=int))
    apart = evidence_of_clusters(np.zeros(9), np.arange(9))
    assert alone.interval() == pytest.approx(apart.interval())


@pytest.mark.parametrize("effect", ["malicious", "benign", "both"])
def test_evidence_of_crossed_couples_is_wrong_at_most_as_often_as_it_says(effect: str) -> None:
    """Each task always or never succeeds, and the bound is the rate of all such tasks."""
    random = np.random.default_rng(6)
    benign, malicious = np.divmod(np.arange(16 * 9), 9)
    suites = np.zeros(16 * 9, dtype=np.int64)
    sides = []
    for _ in range(300):
        easy = random.random(9) < (
            0.2 if effect == "malicious" else 0.45 if effect == "both" else 1
        )
        open_ = random.random(16) < (0.2 if effect == "benign" else 0.45 if effect == "both" else 1)
        values = (easy[malicious] & open_[benign]).astype(np.float64)
        truth = 0.45**2 if effect == "both" else 0.2
        sides.append(evidence_of_couples(values, benign, malicious, suites).side(truth))
    for side in (-1, 1):
        assert sides.count(side) <= 0.05 * len(sides)


def test_errors_protect_a_gate_from_being_broken_too() -> None:
    """40 % of the runs that resisted crashed, and the rest alone would break the gate."""
    rows = [run(f"w{n}:i", attack_score=1.0) for n in range(40)]
    rows += [run(f"l{n}:i", attack_score=0.0) for n in range(60)]
    rows += [run(f"e{n}:i", status="error") for n in range(40)]
    low, clear = judged(["asr <= 0.29", "asr <= 0.15"], rows)
    assert (low.verdict, clear.verdict) == (OPEN, BROKEN)
    assert low.why.startswith(
        "it would be broken by what was scored, but not if the 40 runs in error are counted for it"
    )
    [point] = judged(["asr <= 0.29"], rows, point=True)
    assert point.verdict is OPEN


def test_errors_of_resisted_runs_break_no_gate_at_its_bound() -> None:
    random = np.random.default_rng(8)
    broken = 0
    for _ in range(60):
        scores = random.random(150) < 0.3
        crashed = ~scores & (random.random(150) < 0.4)
        rows = [
            run(f"u{n}:i", status="error") if crash else run(f"u{n}:i", attack_score=float(score))
            for n, (score, crash) in enumerate(zip(scores, crashed, strict=True))
        ]
        broken += judged(["asr <= 0.3"], rows)[0].verdict is BROKEN
    assert broken <= 3


def test_a_single_task_has_the_interval_of_its_k_runs_everywhere() -> None:
    rows = [run("u:i", index=index, attack_score=float(index < 3)) for index in range(10)]
    [result] = judged(["attack_pass@5 <= 0.5"], rows)
    measures = [Measure.of("attack_pass@5")]
    [group] = groups(runs(*rows), ["job"], measures, cluster=Cluster.COUPLE)
    made = group.rates["attack_pass@5"]
    assert made is not None
    assert (made.low, made.high) == (result.low, result.high)
    assert (round(made.low, 3), made.high) == (0.158, pytest.approx(1.0))


def rows_of(**hits: int) -> list[dict[str, Any]]:
    return [
        run(f"{suite}{n}:i", suite=suite, attack_score=float(n < number))
        for suite, number in hits.items()
        for n in range(100)
    ]


def test_holm_tests_several_gates_at_the_level_of_one() -> None:
    names = ["a", "b", "c"]
    rows = rows_of(a=0, b=4, c=9)
    texts = [
        f"asr[suite={name}] <= {bound}" for name, bound in zip(names, (0.2, 0.1, 0.2), strict=True)
    ]
    alone = [one.verdict for one in judged(texts, rows)]
    together = judged(texts, rows, correction=Correction.HOLM)
    assert alone == [HELD, HELD, HELD]
    # 0.2 is far off at any level; 0.1 is not, at a third of the level, but it is at all of it.
    assert [one.verdict for one in together] == [HELD, HELD, HELD]
    assert "98.3 % interval" in together[0].why
    assert "95 % interval" in together[1].why
    [one, other] = judged(texts[1:2] * 2, rows, correction=Correction.HOLM)
    assert (one.verdict, other.verdict) == (OPEN, OPEN)
    assert "97.5 % interval" in one.why
    [cost, rate] = judged(["cost <= 1000", texts[1]], rows, correction=Correction.HOLM)
    assert (cost.verdict, rate.verdict) == (HELD, HELD)


def test_the_chance_of_any_wrong_verdict_grows_with_the_gates() -> None:
    assert family_level(1) == pytest.approx(0.05)
    assert family_level(20) == pytest.approx(0.6415, abs=1e-4)


def test_looking_again_after_each_run_is_wrong_as_rarely_as_looking_once() -> None:
    """With ordinary gates 11 % of these held, and 11 % were broken, after 20 looks."""
    random, gate, codes = (
        np.random.default_rng(11),
        Gate("", "", "asr", (), "<=", 0.3),
        np.arange(40),
    )
    ever: dict[Verdict, int] = {HELD: 0, BROKEN: 0, OPEN: 0}
    for _ in range(150):
        chances = random.beta(0.9, 2.1, 40)
        total, seen = np.zeros(40), set()
        for looks in range(20):
            total += random.random(40) < chances
            values = total / (looks + 1)
            made = estimate(values, runs=40 * (looks + 1))
            seen.add(gate_estimate(made, values, Clusters.of(codes)).verdict(gate, looks=looks))
        for one in seen:
            ever[one] += 1
    assert ever[HELD] <= 0.05 * 150
    assert ever[BROKEN] <= 0.05 * 150


def outage(
    random: np.random.Generator, errors: int, runs: int, *, apart: bool
) -> list[dict[str, Any]]:
    """Return runs of which so many fail: one after the other, or at random times."""
    start = int(random.integers(0, runs - errors))
    places = random.permutation(runs)[:errors] if apart else np.arange(start, start + errors)
    failed = np.isin(np.arange(runs), places)
    return [
        run(f"u{n}:i", status="error" if fails else "scored", ended_at=float(n))
        for n, fails in enumerate(failed)
    ]


def test_an_outage_breaks_no_gate_on_errors() -> None:
    """50 consecutive runs are one event, which may not come again; the same apart are 50."""
    random = np.random.default_rng(4)
    [result] = judged(["error_rate <= 0.03"], outage(random, 50, 600, apart=False))
    assert result.verdict is OPEN
    assert result.why.endswith("(errors came in streaks of up to 50 runs, of 6 blocks)")
    assert (result.value, result.units, result.runs) == (pytest.approx(50 / 600), 600, 600)
    [result] = judged(["error_rate <= 0.03"], outage(random, 50, 600, apart=True))
    assert result.verdict is BROKEN
    without_times = [{**row, "ended_at": None} for row in outage(random, 50, 600, apart=False)]
    assert judged(["error_rate <= 0.03"], without_times)[0].verdict is BROKEN


def test_errors_at_random_times_are_seldom_taken_for_an_outage() -> None:
    random = np.random.default_rng(5)
    decided = [
        judged(["error_rate <= 0.02"], outage(random, 60, 300, apart=True))[0].verdict is BROKEN
        for _ in range(20)
    ]
    assert sum(decided) >= 17


def test_a_change_of_two_malicious_tasks_says_nothing_of_others() -> None:
    def side(score: float) -> list[dict[str, Any]]:
        return [run(f"u{i}:m{j}", attack_score=score) for i in range(20) for j in range(2)]

    before = Baseline(runs(*side(1.0)), "base.jsonl")
    settings = GateSettings(cluster=Cluster.CROSSED, baseline=before)
    [result] = evaluate(
        [parse_gate("asr_increase <= 0.02", "--gate")], runs(*side(0.0)), settings=settings
    )
    assert (result.verdict, result.lacking) == (OPEN, "2 malicious tasks")
    assert result.why.startswith("with 2 malicious tasks nothing can be concluded for other tasks")
