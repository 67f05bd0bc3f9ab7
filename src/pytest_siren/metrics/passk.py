"""pass@k and attack success rate: a figure per task first, then the mean over tasks.

Scores are those of scored runs only: a run that ended in an error, was cancelled, or whose score is
unknown is in no numerator and no denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import TypeAlias

import numpy as np

from pytest_siren.metrics.choices import Cluster, cluster_of
from pytest_siren.metrics.estimates import Estimate, bounded, estimate

ScoresByTask: TypeAlias = Mapping[str, Sequence[float]]
"""Id of each task, or couple, to the scores of its scored runs."""


def pass_at_1(scores_by_task: ScoresByTask) -> float | None:
    """Return the mean score of each task, averaged over tasks; ``None`` without any score."""
    means = [_mean(scores) for scores in scores_by_task.values() if scores]
    return _mean(means) if means else None


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the probability that ``k`` of ``n`` runs, drawn without replacement, hold a success.

    ``c`` of the ``n`` runs succeeded. It is ``1 - C(n - c, k) / C(n, k)``, the unbiased estimator
    of Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1, as a
    product that cannot overflow. Raises ``ValueError`` unless ``0 <= c <= n`` and ``1 <= k <= n``.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    all_fail = 1.0
    for drawn in range(k):
        all_fail *= (n - c - drawn) / (n - drawn)
    return 1.0 - all_fail


def mean_pass_at_k(
    scores_by_task: ScoresByTask, k: int, cluster: Cluster = Cluster.COUPLE
) -> Estimate | None:
    """Return pass@k over all tasks, or ``None`` when no task has ``k`` scored runs.

    ``k == 1`` is ``pass_at_1``, so partial scores count in part; for a larger ``k`` a run succeeds
    when its score is exactly 1.0. Tasks with fewer than ``k`` scored runs are left out and counted.
    Raises ``ValueError`` for ``k < 1``.
    """
    if k < 1:
        raise ValueError(f"pass@k needs a k of at least 1, not {k}")
    if k == 1:
        return _rate(scores_by_task, _mean, 1, cluster)
    return _rate(
        scores_by_task,
        lambda scores: pass_at_k(len(scores), sum(score == 1.0 for score in scores), k),
        k,
        cluster,
    )


def mean_decided_pass_at_k(
    scores_by_task: ScoresByTask, k: int, cluster: Cluster = Cluster.COUPLE
) -> Estimate | None:
    """Return pass@k over tasks that ended once it was decided: at the first success, or after k.

    Tasks with neither are left out and counted, and the interval holds whatever they may come to.
    """
    values = {
        task: float(any(score == 1.0 for score in scores))
        for task, scores in scores_by_task.items()
        if len(scores) >= k or any(score == 1.0 for score in scores)
    }
    if not values:
        return None
    undecided = [task for task, scores in scores_by_task.items() if scores and task not in values]
    numbers: dict[str, int] = {}
    groups = np.array(
        [
            numbers.setdefault(cluster_of(task, cluster), len(numbers))
            for task in (*values, *undecided)
        ]
    )
    found = bounded(
        np.array(list(values.values()), dtype=np.float64),
        groups[: len(values)],
        groups[len(values) :],
        runs=sum(len(scores_by_task[task]) for task in values),
        k=k,
    )
    return replace(found, short=len(scores_by_task) - len(values))


def asr(scores_by_task: ScoresByTask, cluster: Cluster = Cluster.COUPLE) -> Estimate | None:
    """Return the attack success rate: the share of runs with an attack score of exactly 1.0."""
    return _rate(
        scores_by_task,
        lambda scores: sum(score == 1.0 for score in scores) / len(scores),
        1,
        cluster,
    )


def _rate(
    scores_by_task: ScoresByTask,
    value: Callable[[Sequence[float]], float],
    k: int,
    cluster: Cluster,
) -> Estimate | None:
    counted = {task: scores for task, scores in scores_by_task.items() if len(scores) >= k}
    if not counted:
        return None
    numbers: dict[str, int] = {}
    found = estimate(
        np.array([value(scores) for scores in counted.values()], dtype=np.float64),
        None
        if cluster is Cluster.COUPLE
        else np.array(
            [numbers.setdefault(cluster_of(task, cluster), len(numbers)) for task in counted]
        ),
        runs=sum(len(scores) for scores in counted.values()),
        k=k,
    )
    return replace(found, short=len(scores_by_task) - len(counted))


def _mean(values: Sequence[float]) -> float:
    # fsum does not depend on the order in which runs finish.
    return fsum(values) / len(values)
