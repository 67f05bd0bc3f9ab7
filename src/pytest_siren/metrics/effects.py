"""Sizes of effects between paired values."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import wilcoxon

Floats = npt.NDArray[np.float64]

_MOST_VALUES = 2_000
"""Distinct differences up to which all their Walsh averages are taken."""


@dataclass(frozen=True)
class Effects:
    """How large the differences of pairs are, second minus first side."""

    hodges_lehmann: float
    cohen_d: float | None
    """``None`` where all differences are the same."""
    cliff_delta: float
    wilcoxon_p: float


def effects(before: Floats, after: Floats) -> Effects:
    """Return all sizes of the differences. Raises ``ValueError`` without any pair."""
    differences = after - before
    return Effects(
        hodges_lehmann=hodges_lehmann(differences),
        cohen_d=cohen_d(differences),
        cliff_delta=cliff_delta(before, after),
        wilcoxon_p=wilcoxon_p(differences),
    )


def hodges_lehmann(differences: Floats) -> float:
    """Return the median of all Walsh averages ``(x_i + x_j) / 2`` with ``i <= j``.

    Source: Hodges and Lehmann 1963, Annals of Mathematical Statistics 34, 598-611. Equal
    differences are counted, not repeated, so it is exact up to 2,000 distinct ones, however many
    pairs there are; above, 2,000 evenly spaced quantiles stand for them. Raises ``ValueError``
    without any difference.
    """
    if not len(differences):
        raise ValueError("no differences to take the median of")
    values, counts = np.unique(differences, return_counts=True)
    if len(values) > _MOST_VALUES:
        places = (np.arange(_MOST_VALUES) + 0.5) / _MOST_VALUES
        values = np.quantile(differences, places)
        counts = np.ones(_MOST_VALUES, dtype=np.int64)
    first, second = np.triu_indices(len(values))
    averages = (values[first] + values[second]) / 2.0
    same = counts * (counts + 1) // 2
    weights = np.where(first == second, same[first], counts[first] * counts[second])
    order = np.argsort(averages, kind="stable")
    upto = np.cumsum(weights[order])
    total = int(upto[-1])
    lower, upper = np.searchsorted(upto, [(total - 1) // 2, total // 2], side="right")
    return float((averages[order][lower] + averages[order][upper]) / 2.0)


def cohen_d(differences: Floats) -> float | None:
    """Return Cohen's d_z: the mean difference in standard deviations *of the differences*.

    Source: Cohen 1988, *Statistical Power Analysis*, 2.3.5; named d_z in Lakens 2013, Frontiers in
    Psychology 4:863. ``None`` where all differences are the same, or there is only one.
    """
    if len(differences) < 2:
        return None
    spread = float(np.std(differences, ddof=1))
    return float(np.mean(differences)) / spread if spread > 1e-12 else None


def cliff_delta(before: Floats, after: Floats) -> float:
    """Return Cliff's delta, -1..1: how much likelier a value of ``after`` is the larger one.

    ``P(after > before) - P(after < before)`` over all values of one side with all of the other; it
    does not use the pairing. Source: Cliff 1993, Psychological Bulletin 114, 494-509. Raises
    ``ValueError`` where a side is empty.
    """
    if not len(before) or not len(after):
        raise ValueError("Cliff's delta needs values on both sides")
    ordered = np.sort(before)
    below = np.searchsorted(ordered, after, side="left").sum()
    above = len(before) * len(after) - np.searchsorted(ordered, after, side="right").sum()
    return float(int(below) - int(above)) / (len(before) * len(after))


def wilcoxon_p(differences: Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test.

    Pairs that do not differ are left out; where none differs, p is 1. Source: Wilcoxon 1945,
    Biometrics Bulletin 1, 80-83; by ``scipy.stats.wilcoxon``.
    """
    # Differences of equal size must tie: a third has several neighbours as a float.
    rounded = np.round(differences, 9)
    differing = rounded[rounded != 0.0]
    if not len(differing):
        return 1.0
    with warnings.catch_warnings():
        # That a sample is small for the normal approximation, which older SciPy says of ties.
        warnings.simplefilter("ignore", UserWarning)
        return float(wilcoxon(differing).pvalue)
