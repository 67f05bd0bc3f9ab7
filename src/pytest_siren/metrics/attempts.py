"""Several attempts at a run become one row: which of them counts, and what all of them took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Attempts:
    """Attempts in the order of time; every array has the shape ``(attempts,)``."""

    run: Ints
    """Which run it is of: a number from 0, none left out."""
    tries: Ints
    """Attempts that this one stands for, itself among them."""
    input_tokens: Ints
    output_tokens: Ints
    cost: Floats
    """US dollars; NaN where it is unknown."""
    unpriced: Ints
    """Attempts whose cost is unknown."""


@dataclass(frozen=True)
class Runs:
    """What the attempts at each run come to; every array has the shape ``(runs,)``."""

    attempts: Ints
    input_tokens: Ints
    output_tokens: Ints
    cost: Floats
    """US dollars of the attempts whose cost is known."""
    unpriced: Ints


def folded(attempts: Attempts, runs: int) -> Runs:
    """Add up what all attempts at each of ``runs`` runs took."""
    cost: Floats = np.zeros(runs)
    np.add.at(cost, attempts.run, np.nan_to_num(attempts.cost))
    return Runs(
        attempts=_sum(attempts.run, attempts.tries, runs),
        input_tokens=_sum(attempts.run, attempts.input_tokens, runs),
        output_tokens=_sum(attempts.run, attempts.output_tokens, runs),
        cost=cost,
        unpriced=_sum(attempts.run, attempts.unpriced, runs),
    )


def last(run: Ints, runs: int) -> Ints:
    """Return the position of the last attempt at each run."""
    found = np.zeros(runs, dtype=np.int64)
    # Of several values for one place, the last stays.
    found[run] = np.arange(len(run))
    return found


def first_scored(run: Ints, scored: npt.NDArray[np.bool_], runs: int) -> Ints:
    """Return the position of the first attempt with a score at each run, else of the last one."""
    found = last(run, runs)
    places = np.flatnonzero(scored)[::-1]
    found[run[places]] = places
    return found


def _sum(run: Ints, values: Ints, runs: int) -> Ints:
    found = np.zeros(runs, dtype=np.int64)
    np.add.at(found, run, values)
    return found
