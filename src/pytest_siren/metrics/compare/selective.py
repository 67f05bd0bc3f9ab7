"""Selective risk: the mean loss among runs above a threshold of confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DIGITS = 9
"""Decimals to which confidences are rounded before they are compared."""


@dataclass(frozen=True)
class Point:
    """Risk and coverage at one threshold of confidence."""

    threshold: float
    """The lowest accepted confidence, 0..1."""
    coverage: float
    """Share of runs with this confidence or more; tasks weigh the same."""
    risk: float
    """Mean loss among them, 0..1."""


@dataclass(frozen=True)
class SelectiveRisk:
    """A risk-coverage curve."""

    points: tuple[Point, ...]
    """One for each distinct confidence, the highest first; the last covers all runs."""
    aurc: float
    """Area under the curve: the mean risk over all coverages."""
    excess: float
    """``aurc`` minus the lowest that any assignment of confidences has with these losses."""
    tasks: int
    runs: int


@dataclass(frozen=True)
class RunConfidences:
    """The confidence in each run, and its loss and weight."""

    confidences: Floats
    losses: Floats
    weights: Floats
    tasks: int


def risk_coverage(
    confidences: Floats, losses: Floats, weights: Floats | None = None
) -> tuple[Point, ...]:
    """Return risk and coverage for every threshold of confidence.

    ``losses`` are of 0..1. Source: El-Yaniv and Wiener 2010, "On the foundations of noise-free
    selective classification", Journal of Machine Learning Research 11, 1605-1641; Geifman and
    El-Yaniv 2017, "Selective classification for deep neural networks", NeurIPS 30. Raises
    ``ValueError`` without any run.
    """
    thresholds, weight, loss = _levels(confidences, losses, weights)
    coverage = np.cumsum(weight) / weight.sum()
    risk = np.cumsum(loss) / np.cumsum(weight)
    coverage[-1] = 1.0
    return tuple(
        Point(float(at), float(covered), float(lost))
        for at, covered, lost in zip(thresholds, coverage, risk, strict=True)
    )


def aurc(confidences: Floats, losses: Floats, weights: Floats | None = None) -> float:
    """Return the area under the risk-coverage curve, 0..1: small is good.

    It is the mean over all coverages of the risk among the runs with the highest confidence.
    Source: Geifman, Uziel and El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural
    classifiers", ICLR, where the mean is over the coverages 1/n, 2/n ... 1. Few runs of a task have
    few distinct confidences, so here runs of equal confidence are in random order and the mean is
    over all of 0..1: the limit of the published sum, on average, when each run is repeated many
    times. For a level of confidence from coverage a to b, with the loss L before it and the mean
    loss m in it, that is the integral of (L + (c - a) m) / c. Raises ``ValueError`` without any
    run.
    """
    _, weight, loss = _levels(confidences, losses, weights)
    total = weight.sum()
    after = np.cumsum(weight) / total
    before = after - weight / total
    lost = (np.cumsum(loss) - loss) / total
    mean = loss / weight
    with np.errstate(divide="ignore"):
        # The risk is constant within the first level.
        logs = np.where(before > 0.0, np.log(after / np.where(before > 0.0, before, 1.0)), 0.0)
    logs[0] = 0.0
    return float(np.sum(mean * weight / total + (lost - before * mean) * logs))


def leave_one_out_confidences(losses: Floats, units: Ints) -> RunConfidences:
    """Return the confidence in each run: one minus the mean loss of the task's *other* runs.

    ``losses`` holds a number within 0..1 for each run, ``units`` the task of each. A run does not
    contribute to the confidence in itself; otherwise confidence and loss would be correlated by
    construction. Runs of tasks with a single run are left out. All tasks have the same weight.
    """
    _, unit = np.unique(units, return_inverse=True)
    number = np.bincount(unit)
    totals = np.bincount(unit, weights=losses)
    kept = number[unit] > 1
    of, own = unit[kept], losses[kept]
    others = (totals[of] - own) / (number[of] - 1)
    return RunConfidences(1.0 - others, own, 1.0 / number[of], int(np.count_nonzero(number > 1)))


def selective_risk(losses: Floats, units: Ints) -> SelectiveRisk | None:
    """Return the curve for leave-one-out confidences; ``None`` if no task has two runs."""
    found = leave_one_out_confidences(losses, units)
    if not found.tasks:
        return None
    area = aurc(found.confidences, found.losses, found.weights)
    return SelectiveRisk(
        points=risk_coverage(found.confidences, found.losses, found.weights),
        aurc=area,
        excess=max(0.0, area - aurc(-found.losses, found.losses, found.weights)),
        tasks=found.tasks,
        runs=len(found.losses),
    )


def _levels(
    confidences: Floats, losses: Floats, weights: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Return the distinct confidences in descending order, with the weight and loss of each."""
    if not len(confidences):
        raise ValueError("selective risk needs at least one run")
    each = np.ones(len(losses)) if weights is None else weights
    rising, level = np.unique(np.round(confidences, _DIGITS), return_inverse=True)
    weight = np.bincount(level, weights=each).astype(np.float64)
    loss = np.bincount(level, weights=each * losses).astype(np.float64)
    return rising[::-1], weight[::-1], loss[::-1]
