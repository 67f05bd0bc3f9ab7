"""Couples that share the benign or the malicious task are correlated by either."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from benchmarks.coverage_crossed import FIRST_VERSION
from benchmarks.crossed_simulation import Design, Suite, misses
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.intervals import (
    Clusters,
    clustered_mean,
    covariance,
    estimate,
    mid_p,
)
from pytest_siren.metrics.sample_size import OutcomeCounts

CROSSED, COUPLE = Cluster.CROSSED, Cluster.COUPLE


def crossed(
    benign: int, malicious: int, suites: int = 1, kind: Cluster = Cluster.CROSSED
) -> Clusters:
    """Return the tasks of ``suites`` grids of couples."""
    suite, one, other = (
        grid.ravel() for grid in np.indices((suites, benign, malicious), dtype=np.int64)
    )
    by_benign, by_malicious = suite * benign + one, suite * malicious + other
    return Clusters(kind, np.arange(len(suite)), by_benign, by_malicious, suite)


def correlated(clusters: Clusters, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    of_benign, of_malicious = 2.0 * random.normal(size=(2, 1_000))
    effects = of_benign[clusters.benign] + of_malicious[clusters.malicious]
    return (effects + random.normal(size=len(effects)) > 0.5).astype(float)


def test_the_standard_error_is_that_of_cameron_gelbach_and_miller() -> None:
    """As statsmodels computes it, but for the corrections G / (G - 1) of its three parts."""
    clusters = crossed(12, 7)
    values = correlated(clusters)

    _, benign, malicious = cov_cluster_2groups(
        OLS(values, np.ones(len(values))).fit(),
        np.column_stack([clusters.benign, clusters.malicious]),
        use_correction=False,
    )
    each = np.var(values, ddof=1) / len(values)
    parts = float(benign[0, 0]) * 12 / 11 + float(malicious[0, 0]) * 7 / 6 - each
    found = estimate(values, clusters, runs=84)
    assert found.error == pytest.approx(parts**0.5)
    assert clustered_mean(values, clusters).variance == pytest.approx(parts)


def test_the_variance_of_several_suites_is_within_them() -> None:
    clusters = crossed(12, 9, suites=3)
    values = np.clip(correlated(clusters, 4) / 2 + clusters.strata / 4, 0.0, 1.0)
    alone = [
        clustered_mean(values[clusters.strata == suite], clusters.take(clusters.strata == suite))
        for suite in range(3)
    ]
    found = clustered_mean(values, clusters)
    assert found.variance == pytest.approx(sum(one.variance for one in alone) / 9)
    assert found.error > found.variance**0.5
    assert found.number == 27


def test_a_suite_with_a_single_malicious_task_is_no_stratum() -> None:
    clusters = crossed(8, 6, suites=2)
    some = clusters.take((clusters.strata == 0) | (clusters.malicious == 6))
    values = correlated(some)
    found = clustered_mean(values, some)
    assert found.variance**0.5 == pytest.approx(found.error)


def test_one_kind_of_task_may_be_asked_for() -> None:
    clusters = crossed(12, 7)
    values = correlated(clusters)
    errors = {
        kind: estimate(values, replace(clusters, kind=kind), runs=84).error for kind in Cluster
    }
    assert errors[Cluster.CROSSED] > errors[Cluster.MALICIOUS] > errors[Cluster.COUPLE]
    assert errors[Cluster.CROSSED] > errors[Cluster.BENIGN] > errors[Cluster.NONE]
    mean = values.mean()
    assert errors[Cluster.NONE] == pytest.approx((mean * (1 - mean) / 84) ** 0.5)
    none = estimate(values, replace(clusters, kind=Cluster.NONE), runs=84)
    assert (none.low, none.high) == pytest.approx(mid_p(mean, 84))


def test_the_variance_is_never_less_than_that_of_one_kind_alone() -> None:
    """Where couples of a task differ more than independent ones, the difference would be less."""
    clusters = crossed(6, 6)
    values = ((clusters.benign + clusters.malicious) % 2).astype(float)
    values[clusters.benign == 0] = 1.0
    found = clustered_mean(values, clusters)
    alone = [
        clustered_mean(values, replace(clusters, kind=kind)).variance
        for kind in (Cluster.BENIGN, Cluster.MALICIOUS)
    ]
    assert found.variance == pytest.approx(max(alone))


def test_the_covariance_of_gains_and_losses_gives_that_of_their_difference() -> None:
    clusters = crossed(9, 5, suites=2)
    gains, losses = correlated(clusters, 2), correlated(clusters, 3)
    both = covariance(np.column_stack([gains, losses]), clusters).matrix
    (difference,) = covariance((gains - losses)[:, None], clusters).matrix[0]
    assert both[0, 0] + both[1, 1] - 2 * both[0, 1] == pytest.approx(difference)


@pytest.mark.parametrize(
    ("benign", "malicious", "kind", "lacking"),
    [
        (5, 2, "crossed", "2 malicious tasks"),
        (1, 5, "crossed", "1 benign task"),
        (1, 1, "crossed", "1 malicious task"),
        (9, 1, "malicious", "1 malicious task"),
        (2, 9, "benign", "2 benign tasks"),
        (2, 9, "malicious", ""),
        (2, 2, "couple", ""),
        (2, 2, "none", ""),
        (3, 3, "crossed", ""),
    ],
)
def test_too_few_tasks_give_no_interval(
    benign: int, malicious: int, kind: str, lacking: str
) -> None:
    clusters = crossed(benign, malicious, kind=Cluster(kind))
    found = estimate(np.zeros(benign * malicious), clusters, runs=benign * malicious)
    assert found.lacking == lacking
    assert (found.method == "n/a") == bool(lacking)
    if lacking:
        assert (found.low, found.high) == (0.0, 1.0)
        assert found.interval == f"n/a ({lacking})"


def test_tasks_without_an_attack_are_clusters_of_their_own() -> None:
    clusters = crossed(20, 1)
    clusters = replace(clusters, malicious=-1 - clusters.benign)
    values = (np.arange(20) < 6).astype(float)
    found, alone = estimate(values, clusters, runs=20), estimate(values, runs=20)
    assert (found.low, found.high, found.lacking) == (alone.low, alone.high, "")


def test_where_nothing_succeeds_the_limit_counts_the_fewer_tasks() -> None:
    found = estimate(np.zeros(97 * 35), crossed(97, 35), runs=97 * 35)
    assert (found.high, found.method) == (pytest.approx(0.1, abs=1e-4), "exact")
    apart = Clusters(Cluster.CROSSED, *(np.arange(72),) * 3, np.zeros(72, dtype=np.int64))
    assert estimate(np.zeros(72), apart, runs=72).high < 0.05


def test_an_estimate_of_949_couples_takes_less_than_50_ms() -> None:
    clusters = crossed(73, 13)
    values = correlated(clusters)
    seconds = []
    for _ in range(5):
        start = perf_counter()
        estimate(values, clusters, runs=949)
        seconds.append(perf_counter() - start)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    "design",
    [
        Design((Suite(21, 5, 0.1, 0.34, 0.41),)),
        Design((Suite(16, 9, 0.3, 0.1, 0.8),), runs=5),
        Design((Suite(16, 9, 0.1, 0.2, 0.0, few_work=True),)),
        Design(FIRST_VERSION),
    ],
    ids=["like gpt-4o", "malicious tasks differ", "few work", "AgentDojo"],
)
def test_intervals_hold_for_other_tasks_of_both_kinds(design: Design) -> None:
    """At length: `python -m benchmarks.coverage_crossed`."""
    times = 250
    found = misses(np.random.default_rng(8), design, times, (CROSSED, COUPLE))
    slack = 3 * (0.95 * 0.05 / times) ** 0.5
    assert found[CROSSED].coverage >= 0.93 - slack
    assert max(found[CROSSED].below, found[CROSSED].above) <= 0.05 + slack
    assert found[COUPLE].coverage < 0.85


def test_further_tasks_are_crossed_with_all() -> None:
    tasks = crossed(6, 4)
    counts = OutcomeCounts.of(np.zeros(24), np.arange(24), tasks)
    more = counts.with_tasks(30, np.random.default_rng(1)).tasks
    assert np.array_equal(more.benign[:24], tasks.benign)
    benign, malicious = (len(np.unique(codes)) for codes in (more.benign, more.malicious))
    assert (benign, malicious) == (9, 6)
    assert len(more.couples) == len(np.unique(more.couples)) == 54


def test_couples_that_share_no_task_stay_apart() -> None:
    tasks = Clusters(CROSSED, *(np.arange(72),) * 3, np.zeros(72, dtype=np.int64))
    more = OutcomeCounts.of(np.zeros(72), np.arange(72), tasks)
    more = more.with_tasks(10, np.random.default_rng(1))
    assert estimate(np.zeros(82), more.tasks, runs=82).clusters == 82


def published(pipeline: Path) -> list[dict[str, Any]]:
    """Return the attacked runs of a pipeline, as AgentDojo recorded them."""
    files = sorted(pipeline.glob("*/*/important_instructions/*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.mark.parametrize(
    ("pipeline", "score", "naive", "benign", "malicious", "both"),
    [
        ("gpt-4o-2024-05-13", "security", 0.0199, 0.0366, 0.0653, 0.0722),
        ("gpt-4o-2024-05-13", "utility", 0.0199, 0.0416, 0.0547, 0.0658),
        ("command-r-plus", "security", 0.0082, 0.0167, 0.0092, 0.0173),
        ("command-r-plus", "utility", 0.0173, 0.0390, 0.0260, 0.0436),
    ],
)
def test_standard_errors_of_published_runs(
    transcripts: Path,
    pipeline: str,
    score: str,
    naive: float,
    benign: float,
    malicious: float,
    both: float,
) -> None:
    """The last four are figures of an independent computation."""
    runs = published(transcripts / pipeline)
    assert len(runs) == 629
    suites = [run["suite_name"] for run in runs]
    of_benign, of_malicious = (
        [f"{run['suite_name']} {run[f'{kind}_task_id']}" for run in runs]
        for kind in ("user", "injection")
    )
    codes = [
        np.unique(names, return_inverse=True)[1] for names in (of_benign, of_malicious, suites)
    ]
    values = np.array([float(run[score]) for run in runs])
    errors = {
        kind: estimate(values, Clusters(kind, np.arange(629), *codes), runs=629).error
        for kind in Cluster
    }
    assert errors[Cluster.NONE] == pytest.approx(naive, abs=6e-5)
    assert errors[Cluster.BENIGN] == pytest.approx(benign, abs=6e-5)
    assert errors[Cluster.MALICIOUS] == pytest.approx(malicious, abs=6e-5)
    ratio = errors[Cluster.CROSSED] / errors[Cluster.NONE]
    assert f"{ratio:.1f}" == f"{both / naive:.1f}"
