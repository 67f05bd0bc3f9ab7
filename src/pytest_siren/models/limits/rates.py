"""Caps per minute by the generic cell rate algorithm (ITU-T I.371, annex A)."""

from __future__ import annotations

from pytest_siren.models.limits.cells import Cell, Cells

_MINUTE = 60.0


class RateCap:
    """At most so many units a minute, evenly; what fits into one second may come at once."""

    def __init__(self, cells: Cells, cell: Cell, per_minute: float) -> None:
        self._cells = cells
        self._cell = cell
        burst = max(1.0, per_minute // _MINUTE)
        # No minute holds more than ``per_minute``, though a burst may open it.
        self._interval = _MINUTE / max(per_minute - burst + 1.0, min(per_minute, 1.0))
        self._tolerance = self._interval * (burst - 1.0)

    def wait(self, now: float) -> float:
        """Return the seconds until the next unit may go; 0 when it may now."""
        return max(0.0, self._cells[self._cell] - self._tolerance - now)

    def take(self, now: float, units: float) -> None:
        """Count ``units`` as sent at ``now``; hold the lock. They may be more than a burst."""
        arrival = max(self._cells[self._cell], now)
        self._cells[self._cell] = arrival + units * self._interval

    def correct(self, units: float) -> None:
        """Count ``units`` more, or less than were taken; hold the lock."""
        self._cells[self._cell] = max(0.0, self._cells[self._cell] + units * self._interval)
