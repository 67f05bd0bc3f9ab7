"""Two tables of runs, compared."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pytest_siren.metrics.compare.paired import Balance, Comparison, compare, usage
from pytest_siren.metrics.compare.significance import benjamini_hochberg
from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.reports.comparison_pages import row
from tests.unit.paired_sample import couples, runs_of


def grid(rate: float, seed: int, **every: Any) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return couples(
        {f"u{i}:m{j}": [float(random.random() < rate)] for i in range(10) for j in range(6)},
        **every,
    )


def of(comparison: Comparison, measure: str, group: str = "all") -> Any:
    [found] = [test for test in comparison.tests if (test.measure, test.group) == (measure, group)]
    return found


def test_two_models_are_compared_in_every_measure_they_have() -> None:
    """E47, E49."""
    found = compare(
        grid(0.2, 1, model="a", identity="a"),
        grid(0.6, 2, model="b", identity="b"),
        cluster=Cluster.COUPLE,
    )
    assert [one.measure for one in found.measures] == ["utility_under_attack", "asr"]
    asr = of(found, "asr")
    assert (asr.pairs, asr.test) == (60, "mcnemar")
    assert asr.difference.value == pytest.approx(asr.right - asr.left)
    assert asr.bootstrap == pytest.approx((asr.difference.low, asr.difference.high), abs=0.03)
    assert asr.p == asr.mcnemar.p == pytest.approx(asr.permutation_p, abs=0.01)
    assert [test.measure for test in found.worse] == ["utility_under_attack", "asr"]
    other_way = compare(grid(0.6, 2, model="b"), grid(0.2, 1, model="a"), cluster=Cluster.COUPLE)
    assert other_way.worse == ()
    assert of(other_way, "asr").q < 0.05


def test_utility_without_attack_is_a_measure_of_its_own() -> None:
    left = runs_of(*({"task_id": f"u{i}", "benign_score": 1.0} for i in range(30)))
    right = runs_of(*({"task_id": f"u{i}", "benign_score": float(i > 9)} for i in range(30)))
    found = compare(left, right)
    assert [one.measure for one in found.measures] == ["utility"]
    assert [test.measure for test in found.worse] == ["utility"]
    assert found.measures[0].meta is None


def test_errors_are_set_apart_and_tasks_of_one_side_are_named() -> None:
    """E72."""
    left = couples({"u0:m0": [0.0], "u1:m0": ["error"], "u2:m0": [1.0]})
    right = couples({"u0:m0": [1.0], "u1:m0": [1.0], "u3:m0": [1.0]})
    [_, asr] = compare(left, right).measures
    overlap = asr.overlap
    assert (overlap.pairs, overlap.left_out, overlap.unscored_baseline.errors) == (1, 1, 1)
    assert overlap.only_baseline.examples == ("u2:m0",)
    assert overlap.only_runs.examples == ("u3:m0",)


def test_without_any_pair_there_is_no_test() -> None:
    found = compare(couples({"u:m": [0.0]}, dataset="x"), couples({"u:m": [1.0]}, dataset="y"))
    assert found.tests == ()
    assert len(found.measures) == 2
    assert compare(couples({}), couples({})).measures == ()


def test_q_values_are_of_all_tests_of_the_report() -> None:
    """E76, E77."""
    left = pd_concat(grid(0.2, 1, dataset="x"), grid(0.2, 3, dataset="y"))
    right = pd_concat(grid(0.3, 2, dataset="x"), grid(0.5, 4, dataset="y"))
    found = compare(left, right)
    groups = [test.group for test in found.tests]
    assert groups == ["all", "dataset=x", "dataset=y"] * 2
    p = [test.p for test in found.tests]
    assert [test.q for test in found.tests] == benjamini_hochberg(p)
    assert of(found, "asr", "dataset=x").pairs == 60
    meta = found.measures[1].meta
    assert meta is not None
    assert meta.studies == 2
    assert meta.fixed.value == pytest.approx(of(found, "asr").difference.value, abs=0.02)


def pd_concat(*tables: pd.DataFrame) -> pd.DataFrame:
    return runs_of(*(row for one in tables for row in one.astype(object).to_dict("records")))


def test_a_division_that_was_tested_already_is_not_tested_again() -> None:
    left = pd_concat(grid(0.2, 1, dataset="x", suite="s"), grid(0.2, 3, dataset="y", suite="t"))
    assert not [test for test in compare(left, left).tests if test.group.startswith("suite")]


def test_single_attacks_of_different_names_are_compared_and_it_is_said() -> None:
    found = compare(grid(0.2, 1, attack="one"), grid(0.2, 2, attack="two"))
    assert of(found, "asr").pairs == 60
    assert found.notes == ("attack 'one' of the left side is compared with 'two' of the right",)
    several = pd_concat(grid(0.2, 1, attack="one"), grid(0.2, 1, attack="two"))
    found = compare(several, grid(0.2, 2, attack="three"))
    assert found.tests == ()


def test_several_runs_of_a_task_are_one_unit() -> None:
    left = couples({f"u{i}:m": [0.0] * 10 for i in range(3)})
    right = couples({f"u{i}:m": [1.0] * 10 for i in range(3)})
    asr = of(compare(left, right, cluster=Cluster.COUPLE), "asr")
    assert (asr.pairs, asr.difference.units, asr.test) == (30, 3, "sign-flip")
    assert asr.p > 0.2
    assert asr.difference.low < 0.5


def test_couples_of_one_malicious_task_can_be_taken_for_alike() -> None:
    left, right = grid(0.2, 1), grid(0.6, 2)
    asr = of(compare(left, right, cluster=Cluster.MALICIOUS), "asr")
    assert (asr.difference.clusters, asr.test) == (6, "sign-flip")
    assert (asr.mcnemar.p, asr.mcnemar.low, asr.effects.wilcoxon_p) == (None, None, None)


@pytest.mark.parametrize("cluster", [Cluster.BENIGN, Cluster.MALICIOUS])
def test_p_is_not_that_of_independent_couples_where_tasks_are_shared(cluster: Cluster) -> None:
    """All of the change is in one task of six: McNemar's p alone would call it certain."""
    worse = "m0" if cluster is Cluster.MALICIOUS else "u0"
    names = [f"u{i}:m{j}" for i in range(6) for j in range(6)]
    left = couples({name: [0.0] for name in names})
    right = couples({name: [float(worse in name.split(":"))] for name in names})
    asr = of(compare(left, right, cluster=cluster), "asr")
    assert of(compare(left, right, cluster=Cluster.COUPLE), "asr").p == pytest.approx(0.03125)
    assert asr.p == 1.0
    assert asr.mcnemar.p is None
    assert asr.effects.wilcoxon_p is None
    assert asr.p > of(compare(left, right), "asr").p


def test_non_inferiority_needs_a_margin_and_enough_pairs() -> None:
    """E79."""
    left = grid(0.3, 1)
    assert compare(left, left).not_shown == ()
    assert compare(left, left, margin=0.1, cluster=Cluster.COUPLE).not_shown == ()
    assert len(compare(left, left, margin=0.01, cluster=Cluster.COUPLE).not_shown) == 2
    better = compare(grid(0.6, 2), grid(0.2, 1), margin=0.01)
    assert better.not_shown == ()
    with pytest.raises(ValueError, match="margin must be above 0"):
        compare(left, left, margin=-0.1)


def test_uneven_sides_are_noted_and_then_warned_of() -> None:
    """E72."""
    levels = [Balance(10, n).level for n in (10, 20, 21, 50, 51, 0)]
    assert levels == ["even", "even", "noted", "noted", "warned", "warned"]
    assert Balance(51, 10).ratio == pytest.approx(5.1)


def test_a_side_of_two_configurations_is_called_mixed() -> None:
    left = pd_concat(grid(0.2, 1, identity="x"), grid(0.2, 1, identity="y"))
    assert compare(left, grid(0.2, 1)).mixed == (
        "the left side holds 2 configurations of d, a, plain, m",
    )
    assert compare(grid(0.2, 1), grid(0.2, 1)).mixed == ()


def test_one_model_against_several() -> None:
    several = pd_concat(grid(0.2, 1, model="x", identity="x"), grid(0.6, 2, identity="y"))
    found = compare(grid(0.2, 3), several)
    assert of(found, "asr").pairs == 120
    assert found.notes[0].startswith("one side holds several agents or models")


def test_tokens_and_cost_stand_side_by_side() -> None:
    """E48."""
    one = {"task_id": "u", "benign_score": 1.0, "input_tokens": 10, "output_tokens": 2}
    left = runs_of({**one, "cost": 0.5, "duration": 2.0}, {**one, "run_index": 1, "unpriced": 1})
    found = compare(left, runs_of({**one, "attempts": 0}))
    assert (found.left.input_tokens, found.left.cost, found.left.unpriced) == (20, 0.5, 1)
    assert found.left.seconds == 2.0
    assert (found.right.input_tokens, found.right.cost) == (None, None)
    assert usage(runs_of({**one, "unpriced": 1})).cost is None


def test_the_same_seed_gives_the_same_comparison_and_all_of_it_is_json() -> None:
    left, right = grid(0.2, 1), grid(0.6, 2)
    first, again = compare(left, right, margin=0.1), compare(left, right, margin=0.1)
    text = json.dumps(asdict(first), allow_nan=False)
    assert text == json.dumps(asdict(again))
    assert '"hodges_lehmann"' in text


def test_crossed_pairs_are_compared_by_the_variance_of_both_tasks() -> None:
    """One malicious task of eight carries the change, and one in eight is what others may carry."""
    names = [f"u{i}:m{j}" for i in range(20) for j in range(8)]
    left = couples({name: [0.0] for name in names})
    right = couples({name: [float(name.endswith("m0"))] for name in names})
    asr = of(compare(left, right, cluster=Cluster.CROSSED), "asr")
    by_couple = of(compare(left, right, cluster=Cluster.COUPLE), "asr")
    assert (asr.test, asr.permutation_p, asr.mcnemar.p) == ("t", None, None)
    assert asr.difference.clusters == 8
    assert asr.p > 0.1 > 0.001 > by_couple.p
    assert asr.difference.low < 0.0 < by_couple.difference.low
    assert asr.p == pytest.approx(asr.difference.p)
    low, high = asr.bootstrap
    assert low == 0.0
    assert high > 0.3


def test_two_malicious_tasks_allow_no_comparison() -> None:
    names = [f"u{i}:m{j}" for i in range(20) for j in range(2)]
    left, right = (couples({name: [score] for name in names}) for score in (0.0, 1.0))
    asr = of(compare(left, right, cluster=Cluster.CROSSED), "asr")
    assert asr.difference.lacking == "2 malicious tasks"
    assert (asr.difference.low, asr.difference.high, asr.p) == (-1.0, 1.0, 1.0)
    assert row(asr, 0.05)[5] == "n/a (2 malicious tasks)"
