"""Results of gates. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The verdict on a gate."""

    HELD = "held"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class GateResult:
    """The result of one gate."""

    gate: str
    """The expression, as the user wrote it."""
    source: str
    """Where it is from: ``--gate``, or the eval file's path."""
    verdict: Verdict
    value: float | None
    """The estimate; ``None`` if there is none."""
    low: float | None
    high: float | None
    units: int
    """Tasks or couples averaged in the estimate."""
    runs: int
    """Scored runs of these units."""
    errors: int
    """Runs that ended in an error."""
    pending: int
    """Runs that have not ended."""
    why: str
    """One sentence: the reason for the verdict."""
    more_runs: int | None = None
    """About how many more runs would decide an inconclusive gate; ``None`` if no number would.

    These are runs of the same tasks if that suffices, else of further tasks; ``why`` says which.
    For a gate on a change, each run needs a counterpart in the baseline.
    """
    lacking: str = ""
    """Of which tasks there are too few for an interval, such as ``2 malicious tasks``.

    ``low`` and ``high`` are then the limits of the measure.
    """
