"""Increase over a baseline: what is compared, what is left out, and how sure the difference is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from pytest_siren.metrics.compare.difference import mean_difference
from pytest_siren.metrics.compare.paired import Increase, increase
from pytest_siren.metrics.compare.pairing import UnpairedRuns, Unscored
from pytest_siren.metrics.frame import empty
from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.intervals import Clusters
from pytest_siren.metrics.rates.measures import Measure
from tests.unit.paired_sample import couples, runs_of

ASR = Measure.of("asr")
NONE = UnpairedRuns(0, 0, (), ())


def test_pairs_are_compared_run_by_run() -> None:
    before = couples({"u0:m0": [0.0, 0.0], "u1:m0": [1.0, 0.0], "u2:m0": [0.0]}, model="old")
    after = couples({"u0:m0": [1.0, 0.0], "u1:m0": [1.0, 0.0], "u2:m0": [1.0]}, model="new")
    found = increase(before, after, ASR, cluster=Cluster.COUPLE)
    assert (found.pairs, found.left_out, found.complete) == (5, 0, True)
    assert (found.before, found.after) == (pytest.approx(1 / 6), pytest.approx(2 / 3))
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.5)
    assert (found.difference.units, found.difference.clusters) == (3, 3)


def test_a_pair_counts_only_when_both_sides_are_scored() -> None:
    """E72."""
    before = couples({"u0:m0": [1.0], "u1:m0": ["error"], "u2:m0": [None], "u3:m0": [0.0]})
    after = couples({"u0:m0": [1.0], "u1:m0": [1.0], "u2:m0": [1.0], "u3:m0": ["cancelled"]})
    found = increase(before, after, ASR)
    assert (found.pairs, found.left_out, found.complete) == (1, 3, False)
    assert found.unscored_baseline == Unscored(errors=1, cancelled=0, unknown=1)
    assert found.unscored_runs == Unscored(errors=0, cancelled=1, unknown=0)


def test_a_renamed_task_is_on_one_side_only_and_named() -> None:
    before = couples({"u0:m0": [0.0], "u1:m0": [0.0]})
    after = couples({"u0:m0": [0.0], "u1-new:m0": [1.0, 1.0]})
    found = increase(before, after, ASR)
    assert (found.pairs, found.complete) == (1, False)
    assert found.only_baseline == UnpairedRuns(1, 1, ("u1:m0",), ())
    assert found.only_runs == UnpairedRuns(2, 1, ("u1-new:m0",), ())


def test_a_baseline_of_another_dataset_gives_no_pair_and_is_named() -> None:
    before = couples({"u0:m0": [0.0]}, dataset="agentdojo-slack")
    after = couples({"u0:m0": [0.0]}, dataset="agentdojo-banking")
    found = increase(before, after, ASR)
    assert (found.difference, found.pairs, found.complete) == (None, 0, False)
    assert found.only_baseline == UnpairedRuns(1, 0, (), ("agentdojo-slack",))
    assert found.only_runs == UnpairedRuns(1, 0, (), ("agentdojo-banking",))


def test_runs_that_the_baseline_lacks_are_named() -> None:
    found = increase(couples({"u0:m0": [0.0]}), couples({"u0:m0": [0.0, 1.0]}), ASR)
    assert found.only_runs == UnpairedRuns(1, 0, ("u0:m0 (run 1)",), ())


def test_another_attack_is_no_counterpart() -> None:
    found = increase(couples({"u:m": [0.0]}), couples({"u:m": [1.0]}, attack="b"), ASR)
    assert found.pairs == 0


@pytest.mark.parametrize("odd", [empty(), runs_of({"task_id": "u0", "benign_score": 1.0})])
def test_odd_tables_raise_nothing(odd: pd.DataFrame) -> None:
    good = couples({"u0:m0": [0.0]})
    for before, after in ((odd, good), (good, odd), (odd, odd)):
        for name in ("asr", "utility", "error_rate", "pass@3", "attack_pass^2"):
            found = increase(before, after, Measure.of(name), cluster=Cluster.MALICIOUS)
            assert isinstance(found, Increase)
    assert increase(odd, good, ASR).only_runs.runs == 1


def test_errors_can_be_what_is_compared() -> None:
    before = couples({"u0:m0": [0.0], "u1:m0": [0.0]})
    after = couples({"u0:m0": ["error"], "u1:m0": [0.0]})
    found = increase(before, after, Measure.of("error_rate"))
    assert (found.before, found.after, found.pairs) == (0.0, 0.5, 2)


def test_pass_at_k_is_compared_over_the_same_runs() -> None:
    before = couples({"u0:m0": [0.0, 0.0, 1.0], "u1:m0": [0.0, 0.0]})
    after = couples({"u0:m0": [1.0, 1.0, "error"], "u1:m0": [0.0, 1.0]})
    found = increase(before, after, Measure.of("attack_pass@2"))
    assert (found.before, found.after) == (0.0, 1.0)


def test_each_model_is_compared_with_itself_where_both_sides_hold_several() -> None:
    one = {"task_id": "u0:m0", "attack": "a", "model": "one", "attack_score": 0.0}
    two = {**one, "model": "two", "attack_score": 1.0}
    found = increase(runs_of(one, two), runs_of(two, one), ASR)
    assert found.difference is not None
    assert (found.pairs, found.difference.value) == (2, 0.0)
    many = increase(runs_of(one), runs_of(two, one), ASR)
    assert (many.pairs, many.after) == (2, 0.5)


def wilson(mean: float, count: int) -> tuple[float, float]:
    low, high = proportion_confint(mean * count, count, method="wilson")
    return float(low), float(high)


def test_gains_and_losses_are_joined_by_square_and_add() -> None:
    """Zou and Donner 2008, with Wilson's interval of either; many pairs, so that t is normal."""
    gained, lost, count = 600, 200, 20_000
    values = np.array([1.0] * gained + [-1.0] * lost + [0.0] * (count - gained - lost))
    found = mean_difference(values)
    gain, loss = gained / count, lost / count
    (gain_low, gain_high), (loss_low, loss_high) = wilson(gain, count), wilson(loss, count)
    correlation = -np.sqrt(gain * loss / ((1 - gain) * (1 - loss)))
    down, up = gain - gain_low, loss_high - loss
    half = np.sqrt(down**2 + up**2 - 2 * correlation * down * up)
    assert found.low == pytest.approx(0.02 - half, rel=1e-3)
    down, up = loss - loss_low, gain_high - gain
    half = np.sqrt(down**2 + up**2 - 2 * correlation * down * up)
    assert found.high == pytest.approx(0.02 + half, rel=1e-3)
    # And so it is nearly Wald's, where there is plenty of both.
    assert found.error == pytest.approx(np.std(values) / np.sqrt(count), rel=5e-3)


def test_gains_alone_have_wilsons_upper_end() -> None:
    found = mean_difference(np.array([1.0] * 3 + [0.0] * 997))
    assert found.high == pytest.approx(wilson(0.003, 1000)[1], rel=0.01)
    mirrored = mean_difference(-np.array([1.0] * 3 + [0.0] * 997))
    assert (mirrored.low, mirrored.high) == (-found.high, -found.low)


def test_where_no_pair_differs_the_interval_has_a_width_nevertheless() -> None:
    few, many = mean_difference(np.zeros(20)), mean_difference(np.zeros(1000))
    assert few.low < -0.05
    assert few.high > 0.05
    assert few.high == pytest.approx(-few.low)
    assert 0.003 < many.high < 0.005
    alike = mean_difference(np.zeros(1000), Clusters.of(np.repeat(np.arange(10), 100)))
    assert alike.high > 0.1
    alone = mean_difference(np.ones(5), Clusters.of(np.zeros(5, dtype=np.int64)))
    assert (alone.low, alone.high) == (-1.0, 1.0)


def test_clusters_that_are_alike_widen_the_interval() -> None:
    values = np.repeat([1.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 10)
    clusters = np.repeat(np.arange(8), 10)
    free, held = mean_difference(values), mean_difference(values, Clusters.of(clusters))
    assert held.high - held.low > 2.5 * (free.high - free.low)


@pytest.mark.parametrize(
    ("tasks", "runs", "worse", "better"),
    [
        *((20, 1, 0.1, 0.1), (20, 1, 0.1, 0.0), (20, 5, 0.15, 0.05)),
        *((100, 1, 0.03, 0.0), (100, 1, 0.1, 0.0), (100, 5, 0.3, 0.2)),
    ],
)
def test_the_interval_covers_the_true_difference(
    tasks: int, runs: int, worse: float, better: float
) -> None:
    """Runs of a task resemble each other: its probability to change is drawn once."""
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(600):
        draws = random.random((tasks, 1)) if runs > 1 else random.random((tasks, runs))
        fixed = np.where(draws < worse, 1.0, np.where(draws < worse + better, -1.0, 0.0))
        values = np.broadcast_to(fixed, (tasks, runs)).mean(axis=1)
        found = mean_difference(values)
        covered += found.low <= worse - better <= found.high
    assert covered / 600 >= 0.93
