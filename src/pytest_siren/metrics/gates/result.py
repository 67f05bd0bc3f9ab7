"""What came of gates. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What can be said of a gate."""

    HELD = "held"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class GateResult:
    """One gate, and what was found."""

    gate: str
    """The expression, as it was given."""
    source: str
    """Where it was given: ``--gate``, or the eval file's path."""
    verdict: Verdict
    value: float | None
    """The estimate; ``None`` where there is none."""
    low: float | None
    high: float | None
    units: int
    """Tasks or couples that the estimate is the mean of."""
    runs: int
    """Scored runs behind it."""
    errors: int
    """Runs that ended in an error."""
    pending: int
    """Runs that have not come to an end."""
    why: str
    """One sentence: what decided, or what keeps it from being decided."""
    more_runs: int | None = None
    """About how many more runs would decide an inconclusive gate; ``None`` if no number would.

    Of the same tasks where that suffices, else of further ones; ``why`` tells which. For a change
    each needs a counterpart in the baseline.
    """
