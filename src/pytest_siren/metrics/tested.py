"""One measure of one group of pairs, put to all tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_siren.metrics.difference import Difference, mean_difference
from pytest_siren.metrics.effects import Effects, effects
from pytest_siren.metrics.matched import Matched
from pytest_siren.metrics.mcnemar import McNemar, mcnemar
from pytest_siren.metrics.noninferiority import NonInferiority, non_inferior
from pytest_siren.metrics.power import minimum_detectable
from pytest_siren.metrics.resampling import bootstrap, sign_flip_p

HIGHER_IS_WORSE = ("asr", "attack_pass", "error_rate", "incomplete_rate", "refusal_rate")


@dataclass(frozen=True)
class How:
    """How differences are tested."""

    confidence: float = 0.95
    margin: float | None = None
    """What a measure may worsen by, for the test of non-inferiority."""
    seed: int = 0


@dataclass(frozen=True)
class Tested:
    """How one measure differs between the sides of one group of pairs."""

    measure: str
    group: str
    """``all``, or a column of the table and its value, such as ``dataset=agentdojo-slack``."""
    pairs: int
    """Pairs of runs, scored on both sides."""
    left: float
    """The left side's rate over the pairs."""
    right: float
    difference: Difference
    """Right minus left."""
    bootstrap: tuple[float, float]
    """Percentile interval of the difference."""
    mcnemar: McNemar
    """Of tasks, each of which succeeded on a side when half of its score was reached."""
    permutation_p: float
    """Of changed signs, by clusters."""
    effects: Effects
    test: str
    """Where ``p`` is from: ``mcnemar`` where all pairs are independent and of full or no scores,
    else ``sign-flip``."""
    p: float
    q: float
    """``p`` after Benjamini and Hochberg over all tests of the report."""
    higher_is_worse: bool
    non_inferiority: NonInferiority | None
    """Without a margin ``None``."""
    detectable: float | None
    """Difference that these pairs would have shown with a probability of 80 %, if it is real."""

    @property
    def worsening(self) -> float:
        """How much worse the right side is; negative where it is better."""
        return self.difference.value if self.higher_is_worse else -self.difference.value

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference lies on one side of zero."""
        return self.difference.low > 0.0 or self.difference.high < 0.0


def put_to_tests(measure: str, stem: str, group: str, matched: Matched, how: How) -> Tested:
    """Return all tests of ``matched``, at least one unit; ``q`` is ``p`` until more is known."""
    values = matched.after - matched.before
    clusters, higher_is_worse = matched.clusters, stem in HIGHER_IS_WORSE
    difference = mean_difference(values, clusters, confidence=how.confidence)
    before, after = matched.before >= 0.5, matched.after >= 0.5
    counted = mcnemar(
        int(np.count_nonzero(after & ~before)),
        int(np.count_nonzero(before & ~after)),
        confidence=how.confidence,
    )
    permutation_p = sign_flip_p(values, clusters, seed=how.seed)
    scores = np.concatenate([matched.before, matched.after])
    binary = bool(np.all((scores == 0.0) | (scores == 1.0)))
    exact = binary and difference.clusters == difference.units == int(matched.runs.sum())
    p = counted.p if exact else permutation_p
    return Tested(
        measure=measure,
        group=group,
        pairs=int(matched.runs.sum()),
        left=float(matched.before.mean()),
        right=float(matched.after.mean()),
        difference=difference,
        bootstrap=bootstrap(values, clusters, confidence=how.confidence, seed=how.seed),
        mcnemar=counted,
        permutation_p=permutation_p,
        effects=effects(matched.before, matched.after),
        test="mcnemar" if exact else "sign-flip",
        p=p,
        q=p,
        higher_is_worse=higher_is_worse,
        non_inferiority=None
        if how.margin is None
        else non_inferior(
            difference,
            how.margin,
            higher_is_worse=higher_is_worse,
            confidence=how.confidence,
        ),
        detectable=_detectable(difference, how.confidence),
    )


def _detectable(difference: Difference, confidence: float) -> float | None:
    number = difference.clusters
    if number < 2:
        return None
    found = minimum_detectable(difference.error * number**0.5, number, confidence=confidence)
    return found if found <= 1.0 else None
