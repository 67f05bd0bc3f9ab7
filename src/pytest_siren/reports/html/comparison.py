"""The comparison with a baseline, as the template shows it."""

from __future__ import annotations

from typing import Any


def compared(comparison: Any) -> dict[str, Any] | None:
    """Return what the template shows of a comparison; ``None`` without one."""
    return None
