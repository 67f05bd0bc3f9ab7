"""What attempts took. Loaded by every pytest session, so standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_siren.jobs.records.schema import IndexEntry


@dataclass(frozen=True)
class Spent:
    """What some attempts at a run took."""

    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    """US dollars of the attempts whose cost is known."""
    unpriced: int = 0
    """Attempts whose cost is unknown."""

    @classmethod
    def of(cls, entries: Iterable[IndexEntry]) -> Spent:
        """Add up ``entries``."""
        entries = list(entries)
        return cls(
            attempts=len(entries),
            input_tokens=sum(entry.input_tokens for entry in entries),
            output_tokens=sum(entry.output_tokens for entry in entries),
            cost=fsum(entry.cost for entry in entries if entry.cost is not None),
            unpriced=sum(entry.cost is None for entry in entries),
        )


NOTHING = Spent()
