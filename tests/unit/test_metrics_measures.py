from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from scipy.stats import hypergeom

from pytest_siren.metrics.frame import empty
from pytest_siren.metrics.rates.choices import Cluster, Errors
from pytest_siren.metrics.rates.measures import Measure, rate, units
from tests.unit.paired_sample import runs_of
from tests.unit.test_metrics_passk import pass_at_k


def attacked(task: str, *scores: float | None, benign: float = 1.0, **more: Any) -> list[Any]:
    return [
        {
            "task_id": task,
            "attack": "a",
            "run_index": index,
            "benign_score": None if score is None else benign,
            "attack_score": score,
            "status": "error" if score is None else "scored",
            **more,
        }
        for index, score in enumerate(scores)
    ]


def value(table: pd.DataFrame, name: str, **options: Any) -> float | None:
    found = rate(table, Measure.of(name), **options)
    return None if found is None else found.value


def test_runs_are_averaged_per_task_first() -> None:
    table = runs_of(*attacked("u0:m0", 1.0), *attacked("u1:m0", 0.0, 0.0, 1.0, 0.0))
    assert value(table, "asr") == pytest.approx((1.0 + 0.25) / 2)


def test_only_a_full_score_is_an_attack_success() -> None:
    assert value(runs_of(*attacked("u0:m0", 0.9, 1.0)), "asr") == 0.5
    assert value(runs_of(*attacked("u0:m0", 0.9, 1.0)), "attack_pass@1") == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("errors", "asr"), [("exclude", 0.5), ("failure", 1 / 3), ("success", 2 / 3)]
)
def test_errors_count_as_they_are_told_to(errors: str, asr: float) -> None:
    table = runs_of(*attacked("u0:m0", 1.0), *attacked("u1:m0", 0.0), *attacked("u2:m0", None))
    assert value(table, "asr", errors=Errors(errors)) == pytest.approx(asr)
    assert value(table, "error_rate") == pytest.approx(1 / 3)


def test_utility_is_of_runs_without_an_attack() -> None:
    benign = {"task_id": "u0", "benign_score": 0.0}
    table = runs_of(benign, *attacked("u0:m0", 1.0))
    assert value(table, "utility") == 0.0
    assert value(table, "utility_under_attack") == 1.0
    assert value(table, "pass@1") == 0.0
    assert value(table, "benign_pass@1") == 0.5


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_and_pass_hat_k(k: int) -> None:
    table = runs_of(*attacked("u0:m0", 1.0, 0.0, 1.0, 0.0))
    assert value(table, f"attack_pass@{k}") == pytest.approx(pass_at_k(4, 2, k))
    all_succeed = {1: 0.5, 2: 1 / 6, 3: 0.0, 4: 0.0}[k]
    assert value(table, f"attack_pass^{k}") == pytest.approx(all_succeed)


@pytest.mark.parametrize("k", [1, 3, 5, 10])
@pytest.mark.parametrize("successes", [0, 1, 4, 9, 10])
def test_pass_at_k_and_pass_hat_k_agree_with_scipy(successes: int, k: int) -> None:
    table = runs_of(*attacked("u0:m0", *[1.0] * successes, *[0.0] * (10 - successes)))
    drawn = hypergeom(10, successes, k)
    assert value(table, f"attack_pass@{k}") == pytest.approx(drawn.sf(0), abs=1e-12)
    assert value(table, f"attack_pass^{k}") == pytest.approx(drawn.pmf(k), abs=1e-12)


def test_an_estimate_says_how_many_units_were_left_out() -> None:
    table = runs_of(*attacked("u0:m0", 1.0, 0.0), *attacked("u1:m0", 1.0))
    found = rate(table, Measure.of("attack_pass@2"))
    assert found is not None
    assert (found.units, found.short) == (1, 1)


def test_tasks_with_too_few_runs_are_left_out_and_counted() -> None:
    table = runs_of(*attacked("u0:m0", 1.0, 0.0), *attacked("u1:m0", 1.0))
    found = units(table, Measure.of("attack_pass@2"))
    assert (found.values.tolist(), found.runs.tolist(), found.short) == ([1.0], [2], 1)


@pytest.mark.parametrize(("cluster", "number"), [("couple", 4), ("benign", 2), ("malicious", 2)])
def test_clusters(cluster: str, number: int) -> None:
    table = runs_of(*(row for u in "01" for m in "01" for row in attacked(f"u{u}:m{m}", 1.0, 0.0)))
    found = rate(table, Measure.of("asr"), cluster=Cluster(cluster))
    assert found is not None
    assert (found.clusters, found.units, found.runs) == (number, 4, 8)


def test_configurations_do_not_pool_and_share_clusters() -> None:
    table = runs_of(*attacked("u0:m0", 1.0, 1.0), *attacked("u0:m0", 0.0, identity="j"))
    found = rate(table, Measure.of("asr"))
    assert found is not None
    assert (found.value, found.units, found.clusters) == (0.5, 2, 1)


def test_no_runs_give_no_rate() -> None:
    assert rate(empty(), Measure.of("asr")) is None
    assert rate(runs_of(*attacked("u0:m0", None)), Measure.of("asr")) is None


@pytest.mark.parametrize(
    "name", ["ars", "pass", "pass@0", "asr@0", "utility@2", "pass@-1", "", "pass@x"]
)
def test_unknown_measures_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown measure"):
        Measure.of(name)


@pytest.mark.parametrize("name", ["asr", "utility", "pass@5", "attack_pass^3", "error_rate"])
def test_a_measure_says_its_name(name: str) -> None:
    assert str(Measure.of(name)) == name
