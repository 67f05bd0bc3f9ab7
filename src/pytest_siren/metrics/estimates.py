"""Means of values from 0..1 with confidence intervals that respect clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_siren.metrics.intervals import wilson


@dataclass(frozen=True)
class Estimate:
    """A mean over units with its interval; all of 0..1."""

    value: float
    low: float
    high: float
    units: int
    """Tasks or couples, in one configuration each, that it is the mean of."""
    runs: int
    """Runs behind them."""
    clusters: int
    """Clusters of units that resemble each other."""
    method: str
    """How the interval was made, in a word or two."""


def estimate(
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.int64] | None = None,
    *,
    runs: int,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of ``values``, one for each unit, with its interval.

    ``clusters`` holds a number for each unit, the same for units that resemble each other; without
    it every unit is a cluster of its own. Raises ``ValueError`` without any value.
    """
    if not len(values):
        raise ValueError("an estimate needs at least one value")
    number = len(values) if clusters is None else len(np.unique(clusters))
    value = float(np.mean(values))
    low, high = wilson(value, number, confidence)
    return Estimate(value, low, high, len(values), runs, number, "wilson")
