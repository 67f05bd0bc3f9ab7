"""How many more runs of each task would settle a gate on the worst one."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log, sqrt

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from pytest_siren.metrics.settling import CHANCE, MOST_RUNS, Need, smallest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_Chances = Callable[[float, Ints], Floats]


def worst_need(
    values: Floats, runs: Ints, bound: float, *, exact: bool, confidence: float = 0.95
) -> Need:
    """Return the runs that bring the interval of the largest rate clear of ``bound``.

    ``values`` and ``runs`` are the rate and the number of runs of each task, ``exact`` tells
    whether bounds are Clopper and Pearson's or Hoeffding's (``gate_findings``). Runs are added to
    the same tasks: further tasks could only add a worse one. For a smallest rate give ``1 -
    values`` and ``1 - bound``.

    Each task's further runs are taken to succeed at the rate that it has now, independently. So the
    number of its successes is binomial, and the probability that the gate is settled is exact, but
    for Hoeffding's bounds, where the mean of further runs is taken for normal with the variance of
    outcomes of 0 and 1, the largest that there can be.
    """
    worst = float(values.max())
    if worst == bound:
        return Need()
    # Tasks with the same figures have the same prospects.
    kinds, counts = np.unique(
        np.stack([values, runs.astype(np.float64)]), axis=1, return_counts=True
    )
    rates, had = kinds[0], np.rint(kinds[1]).astype(np.int64)
    alpha = (1.0 - confidence) / 2.0
    above = worst > bound
    share = alpha / len(values) if above else alpha

    def settled(each: float) -> bool:
        more = np.maximum(ceil(each) - had, 0)
        one = (_exact if exact else _hoeffding)(rates, had, more, bound, share, above)
        with np.errstate(divide="ignore"):
            # Beyond the bound one task is enough, within it all of them are needed.
            missed = float(np.sum(counts * np.log1p(-one) if above else counts * np.log(one)))
        chance = -np.expm1(missed) if above else np.exp(missed)
        return bool(chance >= CHANCE)

    enough = smallest(settled, float(had.min()), MOST_RUNS / len(values))
    if enough is None:
        return Need()
    each = ceil(enough)
    return Need(runs=int(np.sum(np.maximum(each - runs, 0))), each=each)


def _exact(rates: Floats, had: Ints, more: Ints, bound: float, alpha: float, above: bool) -> Floats:
    """Return the probability, for each task, that Clopper and Pearson's bound is clear."""
    total, wins = had + more, np.rint(rates * had).astype(np.int64)
    if above:
        # The fewest successes of which there would be so many, at the bound, with less than alpha.
        fewest = binom.isf(alpha, total, bound) + 1
        return np.asarray(binom.sf(fewest - 1 - wins, more, rates), dtype=np.float64)
    most = binom.ppf(alpha, total, bound) - 1
    return np.asarray(binom.cdf(most - wins, more, rates), dtype=np.float64)


def _hoeffding(
    rates: Floats, had: Ints, more: Ints, bound: float, alpha: float, above: bool
) -> Floats:
    """Return the probability, for each task, that Hoeffding's bound is clear."""
    total = (had + more).astype(np.float64)
    distance = np.where(above, rates - bound, bound - rates)
    spare = distance - sqrt(log(1.0 / alpha) / 2.0) / np.sqrt(total)
    spread = np.sqrt(more * rates * (1.0 - rates)) / total
    certain = np.where(spare > 0.0, 1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0.0, norm.cdf(spare / spread), certain)
