"""pass@k and attack success rate: a figure per task first, then the mean over tasks.

Scores are those of scored runs only: a run that ended in an error, was cancelled, or whose score is
unknown is in no numerator and no denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from pytest_siren.metrics.intervals import wilson


@dataclass(frozen=True)
class Rate:
    """A mean over tasks, with its 95 % interval; all of 0..1."""

    estimate: float
    low: float
    high: float
    tasks: int
    """Tasks that the estimate is the mean of."""
    runs: int
    """Scored runs of these tasks."""
    short_tasks: int
    """Tasks left out, because they have fewer scored runs than the rate needs."""


def pass_at_1(scores_by_task: Mapping[str, Sequence[float]]) -> float | None:
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


def mean_pass_at_k(scores_by_task: Mapping[str, Sequence[float]], k: int) -> Rate | None:
    """Return pass@k over all tasks, or ``None`` when no task has ``k`` scored runs.

    ``k == 1`` is ``pass_at_1``, so partial scores count in part; for a larger ``k`` a run succeeds
    when its score is exactly 1.0. Tasks with fewer than ``k`` scored runs are left out and counted.
    Raises ``ValueError`` for ``k < 1``.
    """
    if k < 1:
        raise ValueError(f"pass@k needs a k of at least 1, not {k}")
    if k == 1:
        return _rate(scores_by_task, _mean, at_least=1)
    return _rate(
        scores_by_task,
        lambda scores: pass_at_k(len(scores), sum(score == 1.0 for score in scores), k),
        at_least=k,
    )


def asr(attack_scores_by_task: Mapping[str, Sequence[float]]) -> Rate | None:
    """Return the attack success rate: the share of runs with an attack score of exactly 1.0."""
    return _rate(
        attack_scores_by_task,
        lambda scores: _mean([float(score == 1.0) for score in scores]),
        at_least=1,
    )


def _rate(
    scores_by_task: Mapping[str, Sequence[float]],
    estimate: Callable[[Sequence[float]], float],
    *,
    at_least: int,
) -> Rate | None:
    counted = [scores for scores in scores_by_task.values() if len(scores) >= at_least]
    if not counted:
        return None
    mean = _mean([estimate(scores) for scores in counted])
    low, high = wilson(mean, len(counted))
    return Rate(
        estimate=mean,
        low=low,
        high=high,
        tasks=len(counted),
        runs=sum(len(scores) for scores in counted),
        short_tasks=len(scores_by_task) - len(counted),
    )


def _mean(values: Sequence[float]) -> float:
    # fsum does not depend on the order in which runs finish.
    return fsum(values) / len(values)
