"""How a figure grows with the number of items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """Figures by number of items: seconds, or bytes."""

    figures: Mapping[int, float]

    @property
    def exponent(self) -> float:
        """``b`` of the least-squares fit ``figure = a * items ** b``; 1 is linear growth."""
        points = [(math.log(items), math.log(figure)) for items, figure in self.figures.items()]
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread

    @property
    def last_step(self) -> float:
        """An item's cost at the largest number, to that at the number before: 1 is linear growth.

        ``figures[100_000] / figures[10_000] / 10``.
        """
        *_, before, last = sorted(self.figures)
        return (self.figures[last] / self.figures[before]) / (last / before)


def above(figures: Mapping[int, float], base: int) -> Growth:
    """Return how ``figures`` grow above what they are at ``base`` items, by the items added."""
    return Growth(
        {items - base: figures[items] - figures[base] for items in figures if items > base}
    )
