"""Bootstrap and permutation of paired differences, by clusters.

Clusters of which nothing differs but their name are drawn together: how often each *kind* of
cluster is drawn has a multinomial distribution, and how many of equal size change their sign a
binomial one. That is the same distribution as drawing one after the other, and takes a time that
depends on the number of kinds, which for scores is small, and hardly on that of clusters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHUNK = 4_000_000
"""Numbers that are drawn at once."""
_DIGITS = 9
"""Decimals to which sums are rounded, that rounding may not make equal clusters different."""


def bootstrap(
    values: Floats,
    clusters: Ints | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of the mean of ``values``; whole clusters are drawn.

    Source: Efron 1979, Annals of Statistics 7, 1-26; clusters as in Davison and Hinkley 1997,
    *Bootstrap Methods and their Application*, 3.8. The same seed gives the same interval. Raises
    ``ValueError`` without any value.
    """
    sums, sizes, number = _clusters(values, clusters)
    kinds, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    means = []
    for some in _chunks(draws, len(counts)):
        drawn = random.multinomial(number, counts / number, size=some)
        means.append((drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1]))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return float(low), float(high)


def sign_flip_p(
    values: Floats, clusters: Ints | None = None, *, draws: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p of the mean of ``values`` when each cluster may change its sign.

    If nothing differs between the two sides, their names can be exchanged in every pair. Source:
    Fisher 1935, *The Design of Experiments*, 21; one is added to both counts, so that p is never 0
    (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39).
    """
    sums, _, _ = _clusters(values, clusters)
    sizes, counts = np.unique(np.abs(sums[sums != 0.0]), return_counts=True)
    if not len(sizes):
        return 1.0
    observed = abs(float(sums.sum()))
    # Each sum was rounded, and totals that are equal must count as equal.
    tolerance = (len(sums) + 1) * 10.0**-_DIGITS
    random = np.random.default_rng(seed)
    as_large = 0
    for some in _chunks(draws, len(sizes)):
        positive = random.binomial(counts, 0.5, size=(some, len(sizes)))
        totals = np.abs((2 * positive - counts) @ sizes)
        as_large += int(np.count_nonzero(totals >= observed - tolerance))
    return (as_large + 1) / (draws + 1)


def _clusters(values: Floats, clusters: Ints | None) -> tuple[Floats, Floats, int]:
    """Return sum and size of each cluster, and the number of clusters."""
    if not len(values):
        raise ValueError("nothing to draw from")
    if clusters is None:
        return np.round(values, _DIGITS), np.ones(len(values)), len(values)
    groups = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(groups).astype(np.float64)
    return np.round(np.bincount(groups, weights=values), _DIGITS), sizes, len(sizes)


def _chunks(draws: int, width: int) -> list[int]:
    most = max(1, _CHUNK // width)
    return [min(most, draws - start) for start in range(0, draws, most)]
