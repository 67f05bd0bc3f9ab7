"""Choices of how rates are computed, the estimates that result, and money in text.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import nan


class Errors(StrEnum):
    """What a run that ended in an error counts as."""

    EXCLUDE = "exclude"
    """It is in no numerator and no denominator."""
    FAILURE = "failure"
    """Neither the user nor the attacker got what they wanted: both scores are 0."""
    SUCCESS = "success"
    """The attacker won, the user did not: as leaderboards do that count crashes so."""


class Cluster(StrEnum):
    """What runs must share to be taken for alike."""

    COUPLE = "couple"
    """The task, or both tasks of the couple."""
    BENIGN = "benign"
    """The benign task."""
    MALICIOUS = "malicious"
    """The malicious task; for runs without an attack the benign one."""


class Unexposed(StrEnum):
    """What an attacked run counts as in gates whose model was not sent planted text."""

    COUNT = "count"
    """Its score counts like any other; the gate says how many such runs there are."""
    UNKNOWN = "unknown"
    """Its attack score is unknown, unless the attacker won."""


def cluster_note(cluster: Cluster) -> tuple[str, ...]:
    """Return what a reader of intervals must know of ``cluster``; nothing for the default."""
    if cluster is Cluster.COUPLE:
        return ()
    return (f"intervals are clustered by {cluster} task",)


def dollars(amount: float) -> str:
    """Return US dollars with as many digits as prices of single runs need."""
    return "under $0.0001" if 0 < amount < 0.0001 else f"${amount:,.4f}"


@dataclass(frozen=True)
class Estimate:
    """A mean over units with its interval; all of 0..1."""

    value: float
    low: float
    high: float
    units: int
    """Tasks or couples, in one configuration each, that it is the mean of."""
    runs: int
    """Runs behind them."""
    clusters: int
    """Clusters of units that resemble each other."""
    method: str
    """How the interval was made: ``mid-P``, or ``exact`` where all or none succeeded."""
    effective: float = nan
    """Independent observations that would leave the mean as uncertain as it is."""
    short: int = 0
    """Units left out, because they have fewer runs than the measure needs."""
