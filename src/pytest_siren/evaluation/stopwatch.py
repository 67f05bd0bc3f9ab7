"""The times of one run. Standard library only."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Stopwatch:
    """Measures by a clock that nobody sets, so that no duration is negative."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self._began = time.monotonic()

    def now(self) -> datetime:
        """Return the start plus what has passed since, whatever the clock on the wall shows."""
        return self.started_at + timedelta(seconds=time.monotonic() - self._began)
