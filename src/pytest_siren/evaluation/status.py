"""How a run ended. Standard library only, for readers of records that execute nothing."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a run ended."""

    SCORED = "scored"
    ERROR = "error"
    CANCELLED = "cancelled"
