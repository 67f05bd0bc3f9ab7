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
    """What runs must share to be in one cluster, whose runs may be correlated."""

    COUPLE = "couple"
    """The task, or both tasks of the couple."""
    BENIGN = "benign"
    """The benign task."""
    MALICIOUS = "malicious"
    """The malicious task; for runs without an attack the benign one."""


class Unexposed(StrEnum):
    """How gates count an attacked run whose model was never sent planted text."""

    COUNT = "count"
    """Its score counts like any other; the gate reports how many such runs there are."""
    UNKNOWN = "unknown"
    """Its attack score is unknown, unless the attacker won."""


def cluster_note(cluster: Cluster) -> tuple[str, ...]:
    """Return a note on how intervals were clustered; none for the default."""
    if cluster is Cluster.COUPLE:
        return ()
    return (f"intervals are clustered by {cluster} task",)


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
    """Clusters of correlated units."""
    method: str
    """How the interval was computed: ``mid-P``, or ``exact`` where all or none succeeded."""
    effective: float = nan
    """Effective sample size: independent observations with the same uncertainty of the mean."""
    short: int = 0
    """Units left out because they have fewer runs than the measure needs."""
