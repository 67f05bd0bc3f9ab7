"""Simulated attacks on crossed tasks whose true rate is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from pytest_siren.metrics.rates.choices import Cluster
from pytest_siren.metrics.rates.intervals import Clusters, estimate

Floats = npt.NDArray[np.float64]

ALWAYS, SELDOM = 0.9, 0.01
"""Rates of malicious tasks that work and that do not, where few drive everything."""


@dataclass(frozen=True)
class Suite:
    """Benign tasks crossed with malicious ones.

    A run succeeds if a normal variable is below a threshold (a probit model). Its correlation is
    ``by_benign`` for runs with the same benign task, ``by_malicious`` for those with the same
    malicious one, and the sum of these and ``by_couple`` for runs of one couple.
    """

    benign: int
    malicious: int
    rate: float
    by_benign: float
    by_malicious: float
    by_couple: float = 0.05
    few_work: bool = False
    """Whether a malicious task works in ``ALWAYS`` of the runs or in ``SELDOM``, in place of a
    correlation."""

    @property
    def couples(self) -> int:
        """Number of couples."""
        return self.benign * self.malicious

    def values(self, random: np.random.Generator, runs: int) -> Floats:
        """Draw tasks, and return the mean over ``runs`` of each couple, benign tasks first."""
        shape = (self.benign, self.malicious)
        shared = np.sqrt(self.by_benign) * random.normal(size=(self.benign, 1))
        shared = shared + np.sqrt(self.by_couple) * random.normal(size=shape)
        left = 1.0 - self.by_benign - self.by_couple
        thresholds: Floats = np.full((1, self.malicious), ndtri(self.rate))
        if self.few_work:
            share = (self.rate - SELDOM) / (ALWAYS - SELDOM)
            works = random.random((1, self.malicious)) < share
            thresholds = np.where(works, ndtri(ALWAYS), ndtri(SELDOM))
        else:
            left -= self.by_malicious
            shared = shared + np.sqrt(self.by_malicious) * random.normal(size=(1, self.malicious))
        noise = np.sqrt(left) * random.normal(size=(runs, *shape))
        made: Floats = (shared + noise < thresholds).mean(axis=0).ravel()
        return made


@dataclass(frozen=True)
class Design:
    """A kind of evaluation."""

    suites: tuple[Suite, ...]
    runs: int = 1

    @property
    def rate(self) -> float:
        """The true rate, over all tasks that could be drawn."""
        total = sum(suite.couples * suite.rate for suite in self.suites)
        return total / sum(suite.couples for suite in self.suites)

    def clusters(self) -> Clusters:
        """Return the tasks of the couples."""
        codes = [np.empty(0, dtype=np.int64)] * 3
        for place, suite in enumerate(self.suites):
            benign, malicious = np.indices((suite.benign, suite.malicious)).reshape(2, -1)
            found = benign + 1_000 * place, malicious + 1_000 * place, np.full(len(benign), place)
            codes = [np.concatenate(pair) for pair in zip(codes, found, strict=True)]
        return Clusters(Cluster.CROSSED, np.arange(len(codes[0])), *codes)


@dataclass(frozen=True)
class Misses:
    """Shares of the intervals that miss the true rate."""

    below: float
    """The interval is below it: a gate ``asr <= rate``, at its bound, would falsely hold."""
    above: float
    """The interval is above it: such a gate would falsely be broken."""

    @property
    def coverage(self) -> float:
        """Share of the intervals that hold the true rate."""
        return 1.0 - self.below - self.above


def misses(
    random: np.random.Generator, design: Design, times: int, kinds: Sequence[Cluster]
) -> dict[Cluster, Misses]:
    """Evaluate ``times``, with new tasks each time, and return how often each interval misses."""
    clusters = {kind: replace(design.clusters(), kind=kind) for kind in kinds}
    rate = design.rate
    found = {kind: [0, 0] for kind in kinds}
    for _ in range(times):
        values = np.concatenate([suite.values(random, design.runs) for suite in design.suites])
        for kind, tasks in clusters.items():
            made = estimate(values, tasks, runs=len(values) * design.runs)
            found[kind][0] += made.high < rate
            found[kind][1] += made.low > rate
    return {kind: Misses(below / times, above / times) for kind, (below, above) in found.items()}
