"""Options of how rates are computed, the resulting estimates, and amounts of money as text.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import nan


class Errors(StrEnum):
    """How a run that ended in an error is counted."""

    EXCLUDE = "exclude"
    """The run is in no numerator and no denominator."""
    FAILURE = "failure"
    """Neither the user nor the attacker got what they wanted: both scores are 0."""
    SUCCESS = "success"
    """The attacker won and the user did not, as on leaderboards that count crashes so."""


class Cluster(StrEnum):
    """What correlated runs share, and so which population an interval speaks of."""

    CROSSED = "crossed"
    """The benign or the malicious task: the interval is for other tasks of both kinds."""
    BENIGN = "benign"
    """The benign task: the interval is for other benign tasks."""
    MALICIOUS = "malicious"
    """The malicious task, for runs without an attack the benign one: for other malicious tasks."""
    COUPLE = "couple"
    """The task, or both tasks of the couple: for these couples, drawn again."""
    NONE = "none"
    """Nothing: all runs are independent."""

    @property
    def population(self) -> str:
        """What an interval speaks of, for reports."""
        return _POPULATIONS[self]


_POPULATIONS = {
    Cluster.CROSSED: "other benign and malicious tasks like these",
    Cluster.BENIGN: "other benign tasks like these, with these malicious tasks",
    Cluster.MALICIOUS: "other malicious tasks like these, with these benign tasks",
    Cluster.COUPLE: "these couples, other draws",
    Cluster.NONE: "independent runs, whatever tasks they share",
}


class Correction(StrEnum):
    """How the levels of several gates are corrected for their number."""

    NONE = "none"
    """Each gate has the full level, and the summary states the chance of any wrong verdict."""
    HOLM = "holm"
    """Holm's step-down procedure keeps that chance at the level of a single gate."""


class Unexposed(StrEnum):
    """How gates count an attacked run whose model was never sent planted text."""

    COUNT = "count"
    """Its score counts like any other; the gate reports how many such runs there are."""
    UNKNOWN = "unknown"
    """Its attack score is unknown, unless the attacker won."""


def cluster_note(cluster: Cluster, *, attacked: bool = True) -> tuple[str, ...]:
    """Return a note on the population of the intervals; none if no run is ``attacked``."""
    note = f"intervals of attacked runs speak of {cluster.population} (cluster {cluster})"
    return (note,) if attacked else ()


def dollars(amount: float) -> str:
    """Return US dollars as text, with four decimals."""
    return "under $0.0001" if 0 < amount < 0.0001 else f"${amount:,.4f}"


@dataclass(frozen=True)
class Estimate:
    """A mean over units with its interval, all within 0..1."""

    value: float
    low: float
    high: float
    units: int
    """Units averaged: tasks or couples, each in one configuration."""
    runs: int
    """Runs of these units."""
    clusters: int
    """Clusters of correlated units; of crossed tasks, the number of the kind that has fewer."""
    method: str
    """How the interval was computed: ``mid-P``, ``exact`` where all or none succeeded, or ``n/a``.
    """
    effective: float = nan
    """Effective sample size: independent observations with the same uncertainty of the mean."""
    short: int = 0
    """Units left out because they have fewer runs than the measure needs."""
    error: float = nan
    """Standard error of ``value``; of crossed tasks that of Cameron, Gelbach and Miller 2011."""
    lacking: str = ""
    """Of which tasks there are too few for an interval, such as ``2 malicious tasks``.

    The interval is then 0 to 1, and shown as ``n/a (2 malicious tasks)``.
    """
    worst: tuple[float, float] | None = None
    """The value if runs in error and unknown scores counted as 0, and as 1; ``None`` if unasked.

    These are bounds of what would have been measured without them: Manski 1990, "Nonparametric
    bounds on treatment effects", American Economic Review 80, 319-323.
    """

    @property
    def interval(self) -> str:
        """The interval as text, or why there is none."""
        if self.lacking:
            return f"n/a ({self.lacking})"
        return f"[{self.low:.3f}, {self.high:.3f}]"

    @property
    def worst_case(self) -> str:
        """``worst`` as text; empty if at most 1 % of what is averaged has no score."""
        if self.worst is None or self.worst[1] - self.worst[0] <= 0.01:
            return ""
        return f"worst case {self.worst[0]:.3f} to {self.worst[1]:.3f}"
