"""Whether two sides have about as many runs, and what those cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_NOTED, _WARNED = 2.0, 5.0


@dataclass(frozen=True)
class Balance:
    """Runs of either side that a measure speaks of."""

    left: int
    right: int

    @property
    def ratio(self) -> float | None:
        """Of the larger to the smaller number; ``None`` where a side has none."""
        smaller, larger = sorted((self.left, self.right))
        return larger / smaller if smaller else None

    @property
    def level(self) -> str:
        """``even``; ``noted`` above 2 to 1; ``warned`` above 5 to 1, or where a side has none."""
        if self.left == self.right:
            return "even"
        if self.ratio is None or self.ratio > _WARNED:
            return "warned"
        return "noted" if self.ratio > _NOTED else "even"


@dataclass(frozen=True)
class Usage:
    """What runs took, all attempts counted; ``None`` for what is not known of any of them."""

    runs: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    """US dollars of the attempts whose price is known."""
    unpriced: int
    """Attempts whose price is not known."""
    seconds: float | None
    """Mean duration of the attempts that count."""


def usage(runs: pd.DataFrame) -> Usage:
    """Add up what ``runs``, a table of ``metrics/runs.py``, took.

    A baseline file keeps scores only: its runs have no attempts, so nothing is known.
    """
    if not int(runs["attempts"].sum()):
        return Usage(len(runs), None, None, None, 0, None)
    unpriced = int(runs["unpriced"].sum())
    priced = unpriced < int(runs["attempts"].sum())
    durations = runs["duration"].to_numpy(np.float64)
    known = durations[~np.isnan(durations)]
    return Usage(
        runs=len(runs),
        input_tokens=int(runs["input_tokens"].sum()),
        output_tokens=int(runs["output_tokens"].sum()),
        cost=float(np.nansum(runs["cost"].to_numpy(np.float64))) if priced else None,
        unpriced=unpriced,
        seconds=float(known.mean()) if len(known) else None,
    )
