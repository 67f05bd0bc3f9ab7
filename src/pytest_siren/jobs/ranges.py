"""What the fields of records may hold. Every reader of a record refuses whatever lies outside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field

from pytest_siren.evaluation.finish import Finish

MOST_COUNT = 10**12
"""Sums of so many tokens, over millions of runs, still fit into 64 bits."""
MOST_AMOUNT = 1e15
_FIRST, _LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def bounded(moment: datetime) -> datetime:
    """Return ``moment``, of UTC if it has no zone. Raises ``ValueError`` if no run can have it."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not _FIRST <= moment <= _LAST:
        raise ValueError("it is not between 1970 and 9999")
    return moment


def _forward(seconds: float) -> float:
    """Return no less than 0: an earlier version measured by a clock that can be set back."""
    return max(0.0, seconds)


def _counted(usage: dict[str, Any]) -> dict[str, Any]:
    for name in ("input_tokens", "output_tokens"):
        if name not in usage:
            raise ValueError(f"{name} is missing")
    for name, value in usage.items():
        if name in _COUNTS and (type(value) is not int or not 0 <= value <= MOST_COUNT):
            raise ValueError(f"{name} is no count of 0 or more")
    return usage


_COUNTS = frozenset(
    {
        *("input_tokens", "output_tokens", "requests", "tool_calls"),
        *("cache_read_tokens", "cache_write_tokens"),
        *("input_audio_tokens", "output_audio_tokens", "cache_audio_read_tokens"),
    }
)

Name: TypeAlias = Annotated[str, Field(min_length=1)]
Score: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Amount: TypeAlias = Annotated[float, Field(ge=0.0, le=MOST_AMOUNT, allow_inf_nan=False)]
Duration: TypeAlias = Annotated[
    float, Field(ge=-MOST_AMOUNT, le=MOST_AMOUNT, allow_inf_nan=False), AfterValidator(_forward)
]
"""Seconds; a negative one is read as 0."""
Count: TypeAlias = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Number: TypeAlias = Annotated[int, Field(ge=1, le=MOST_COUNT)]
"""1 for the first."""
StatusName: TypeAlias = Annotated[str, Field(pattern="^(?:scored|error|cancelled)$")]
AttackOutcome: TypeAlias = Annotated[str, Field(pattern="^(?:succeeded|resisted|unknown)$")]
FinishName: TypeAlias = Annotated[str, AfterValidator(lambda name: Finish(name).value)]
Moment: TypeAlias = Annotated[datetime, AfterValidator(bounded)]
"""Of UTC where no zone is given."""
Usage: TypeAlias = Annotated[dict[str, Any], AfterValidator(_counted)]
