"""The false discovery rate of many tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the q-value of each p-value, in the same order: reject where it is below the level.

    The i-th smallest of m becomes ``p * m / i``, and then the minimum of itself and of all that
    come after it: the running minimum goes from the largest p down, so that a q-value never falls
    while p rises. Source: Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B
    57, 289-300; as adjusted values: Yekutieli and Benjamini 1999, Journal of Statistical Planning
    and Inference 82, 171-196. Raises ``ValueError`` for a p-value that is not within 0..1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError("p-values lie within 0..1")
    order = np.argsort(-p, kind="stable")
    ranks = np.arange(len(p), 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(p[order] * len(p) / ranks) if len(p) else p
    return [float(value) for value in np.minimum(q, 1.0)]
