"""Which share of the latest requests was refused."""

from __future__ import annotations

import math


class RefusalShare:
    """A mean over answers that forgets: those ``memory`` seconds old count a third of new ones."""

    def __init__(self) -> None:
        self._all = 0.0
        self._refused = 0.0
        self._at = 0.0

    @property
    def value(self) -> float:
        """From 0 to 1; 0 without answers."""
        return self._refused / self._all if self._all else 0.0

    def add(self, refused: bool, now: float, memory: float) -> None:
        """Take notice of an answer at ``now``."""
        kept = math.exp(-max(0.0, now - self._at) / memory)
        self._all = self._all * kept + 1.0
        self._refused = self._refused * kept + refused
        self._at = now

    def forget(self) -> None:
        """Begin anew."""
        self._all = self._refused = 0.0
