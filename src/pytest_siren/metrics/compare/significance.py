"""Significance tests of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import exp, gcd, lcm, log, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, false_discovery_control

from pytest_siren.metrics.compare.difference import (
    Difference,
    NonInferiority,
    mean_difference,
    non_inferior,
)
from pytest_siren.metrics.compare.effects import Effects, effects, minimum_detectable
from pytest_siren.metrics.compare.pairing import MatchedScores
from pytest_siren.metrics.rates.intervals import Clusters


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of the discordant pairs."""

    gained: int
    """Pairs in which only the second side succeeded."""
    lost: int
    """Pairs in which only the first side succeeded."""
    p: float | None
    """Two-sided; ``None`` where pairs are not independent."""
    odds_ratio: float
    """``(gained + 0.5) / (lost + 0.5)``."""
    low: float | None
    high: float | None
    """Interval of ``odds_ratio``; ``None`` as ``p``."""


def mcnemar(
    gained: int, lost: int, *, confidence: float = 0.95, independent: bool = True
) -> McNemar:
    """Test discordant pairs by the exact two-sided binomial test with probability 1/2.

    Source: McNemar 1947, Psychometrika 12, 153-157; the exact conditional form as in Fagerland,
    Lydersen and Laake 2013, BMC Medical Research Methodology 13:91. The odds ratio has 0.5 added to
    either count (Haldane 1956, Anscombe 1956), its interval is Wald's on the logarithm.
    Both assume ``independent`` pairs, and are left out otherwise. Raises ``ValueError`` for
    negative counts.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts of pairs cannot be negative: {gained}, {lost}")
    total = gained + lost
    upper, lower = gained + 0.5, lost + 0.5
    if not independent:
        return McNemar(gained, lost, None, upper / lower, None, None)
    p = float(binomtest(gained, total, 0.5).pvalue) if total else 1.0
    half = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * sqrt(1.0 / upper + 1.0 / lower)
    centre = log(upper / lower)
    return McNemar(gained, lost, p, upper / lower, exp(centre - half), exp(centre + half))


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHUNK = 4_000_000
"""Numbers drawn at once."""
_DIGITS = 9
"""Decimals to which sums are rounded, so that equal clusters stay equal."""
_MOST_PARTS = 10_000
"""Largest denominator of a sum that is taken for a fraction; others differ by 1e-8 or more."""
_MOST_STEPS = 5_000_000
"""Additions that an exact permutation test may take: a few milliseconds."""


def bootstrap(
    values: Floats,
    clusters: Clusters | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap percentile interval of the mean of ``values``, resampling clusters.

    Source: Efron 1979, Annals of Statistics 7, 1-26; clusters as in Davison and Hinkley 1997,
    *Bootstrap Methods and their Application*, 3.8. Of crossed tasks, both kinds are resampled in
    each suite: the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1, 386-411. The
    same seed gives the same interval. Raises ``ValueError`` without any value.
    """
    random = np.random.default_rng(seed)
    tail = (1.0 - confidence) / 2.0
    if clusters is not None and clusters.crossed:
        low, high = np.quantile(_pigeonhole(values, clusters, draws, random), [tail, 1.0 - tail])
        return float(low), float(high)
    sums, sizes, number = _clusters(values, None if clusters is None else clusters.codes)
    kinds, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    means = []
    for some in _chunks(draws, len(counts)):
        drawn = random.multinomial(number, counts / number, size=some)
        means.append((drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1]))
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return float(low), float(high)


def _pigeonhole(
    values: Floats, clusters: Clusters, draws: int, random: np.random.Generator
) -> Floats:
    """Return the means of ``draws`` resamples, shape ``(draws,)``."""
    total, number = np.zeros(draws), np.zeros(draws)
    for suite in np.unique(clusters.strata):
        part = clusters.strata == suite
        rows = np.unique(clusters.benign[part], return_inverse=True)[1]
        columns = np.unique(clusters.malicious[part], return_inverse=True)[1]
        shape = int(rows.max()) + 1, int(columns.max()) + 1
        sums, units = np.zeros(shape), np.zeros(shape)
        np.add.at(sums, (rows, columns), values[part])
        np.add.at(units, (rows, columns), 1.0)
        benign, malicious = (
            random.multinomial(size, np.full(size, 1.0 / size), draws) for size in shape
        )
        total += np.einsum("di,ij,dj->d", benign, sums, malicious, optimize=True)
        number += np.einsum("di,ij,dj->d", benign, units, malicious, optimize=True)
    # Of an incomplete table, a draw may hold nothing.
    return np.asarray(total[number > 0] / number[number > 0], dtype=np.float64)


def sign_flip_p(
    values: Floats, clusters: Ints | None = None, *, draws: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p of the mean of ``values`` by flips of the signs of clusters.

    Under the null hypothesis the two sides are exchangeable in every pair. Source: Fisher 1935,
    *The Design of Experiments*, 21. The p-value is exact, over all assignments of signs, if the
    sums of clusters are multiples of one fraction, as means of a few runs are. Otherwise it is from
    random ``draws``, with one added to both counts, so that p is never 0 (Phipson and Smyth 2010,
    Statistical Applications in Genetics and Molecular Biology 9:39). Raises ``ValueError`` without
    any value.
    """
    sums, _, _ = _clusters(values, clusters)
    sums = sums[sums != 0.0]
    if not len(sums):
        return 1.0
    whole = _whole_numbers(sums)
    if whole is not None:
        return _exact_sign_flip_p(whole)
    sizes, counts = np.unique(np.abs(sums), return_counts=True)
    observed = abs(float(sums.sum()))
    # Sums were rounded, so equal totals may differ by rounding errors.
    tolerance = (len(sums) + 1) * 10.0**-_DIGITS
    random = np.random.default_rng(seed)
    as_large = 0
    for some in _chunks(draws, len(sizes)):
        positive = random.binomial(counts, 0.5, size=(some, len(sizes)))
        totals = np.abs((2 * positive - counts) @ sizes)
        as_large += int(np.count_nonzero(totals >= observed - tolerance))
    return (as_large + 1) / (draws + 1)


def _whole_numbers(sums: Floats) -> list[int] | None:
    """Return ``sums`` in units of their largest common fraction; ``None`` if it is too small."""
    found = {one: Fraction(one).limit_denominator(_MOST_PARTS) for one in set(sums.tolist())}
    if any(abs(float(exact) - one) > 10.0**-_DIGITS for one, exact in found.items()):
        return None
    parts = lcm(*(exact.denominator for exact in found.values()))
    whole = [int(found[one] * parts) for one in sums.tolist()]
    common = gcd(*whole)
    whole = [one // common for one in whole]
    return whole if len(whole) * sum(map(abs, whole)) <= _MOST_STEPS else None


def _exact_sign_flip_p(sums: Sequence[int]) -> float:
    """Return the share of the assignments of signs whose sum is at least as far from 0."""
    total = sum(map(abs, sums))
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for size in map(abs, sums):
        chances[size:] = (chances[size:] + chances[:-size]) / 2.0
        chances[:size] /= 2.0
    distance = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(chances[distance >= abs(sum(sums))].sum()))


def _clusters(values: Floats, clusters: Ints | None) -> tuple[Floats, Floats, int]:
    """Return sum and size of each cluster, and the number of clusters."""
    if not len(values):
        raise ValueError("nothing to draw from")
    if clusters is None:
        return np.round(values, _DIGITS), np.ones(len(values)), len(values)
    groups = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(groups).astype(np.float64)
    return np.round(np.bincount(groups, weights=values), _DIGITS), sizes, len(sizes)


def _chunks(draws: int, width: int) -> list[int]:
    most = max(1, _CHUNK // width)
    return [min(most, draws - start) for start in range(0, draws, most)]


HIGHER_IS_WORSE = ("asr", "attack_pass", "error_rate", "incomplete_rate", "refusal_rate")


@dataclass(frozen=True)
class PairedTestSettings:
    """Settings of the tests."""

    confidence: float = 0.95
    margin: float | None = None
    """How much a measure may worsen, for the test of non-inferiority."""
    seed: int = 0


@dataclass(frozen=True)
class PairedTestResult:
    """All tests of one measure over one group of pairs."""

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
    """Over tasks; a task succeeds on a side if its score there is at least 0.5."""
    permutation_p: float | None
    """p of the sign-flip test over clusters; ``None`` for crossed tasks, whose signs cannot be
    flipped independently."""
    effects: Effects
    test: str
    """The test that ``p`` is from: ``mcnemar`` if pairs are independent and scores are 0 or 1,
    ``t`` for crossed tasks (``Difference.p``), else ``sign-flip``."""
    p: float
    q: float
    """``p`` adjusted by Benjamini and Hochberg over all tests of the report."""
    higher_is_worse: bool
    non_inferiority: NonInferiority | None
    """``None`` without a margin."""
    detectable: float | None
    """The smallest true difference that these pairs detect with a power of 80 %."""

    @property
    def worsening(self) -> float:
        """How much worse the right side is; negative where it is better."""
        return self.difference.value if self.higher_is_worse else -self.difference.value

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference lies on one side of zero."""
        return self.difference.low > 0.0 or self.difference.high < 0.0


def run_tests(
    measure: str, stem: str, group: str, matched: MatchedScores, how: PairedTestSettings
) -> PairedTestResult:
    """Return all tests of ``matched``, which has at least one unit; ``q`` is set to ``p``."""
    values = matched.after - matched.before
    tasks, higher_is_worse = matched.tasks, stem in HIGHER_IS_WORSE
    difference = mean_difference(values, tasks, confidence=how.confidence)
    independent = not tasks.crossed and difference.clusters == difference.units
    before, after = matched.before >= 0.5, matched.after >= 0.5
    counted = mcnemar(
        int(np.count_nonzero(after & ~before)),
        int(np.count_nonzero(before & ~after)),
        confidence=how.confidence,
        independent=independent,
    )
    permutation_p = None if tasks.crossed else sign_flip_p(values, tasks.codes, seed=how.seed)
    scores = np.concatenate([matched.before, matched.after])
    binary = bool(np.all((scores == 0.0) | (scores == 1.0)))
    exact = binary and independent and difference.units == int(matched.runs.sum())
    test, p = "sign-flip", permutation_p
    if p is None:
        test, p = "t", difference.p
    elif exact and counted.p is not None:
        test, p = "mcnemar", counted.p
    return PairedTestResult(
        measure=measure,
        group=group,
        pairs=int(matched.runs.sum()),
        left=float(matched.before.mean()),
        right=float(matched.after.mean()),
        difference=difference,
        bootstrap=bootstrap(values, tasks, confidence=how.confidence, seed=how.seed),
        mcnemar=counted,
        permutation_p=permutation_p,
        effects=effects(matched.before, matched.after, independent=independent),
        test=test,
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
    number = difference.degrees + 1.0
    if number < 2.0:
        return None
    found = minimum_detectable(difference.error * number**0.5, number, confidence=confidence)
    return found if found <= 1.0 else None


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return the q-value of each p-value, in the same order: reject where it is below the level.

    The i-th smallest of m becomes ``p * m / i``, then the minimum of that and of all later ones, so
    that q-values are monotone in p. Source: Benjamini and Hochberg 1995, Journal of the Royal
    Statistical Society B 57, 289-300; as adjusted values: Yekutieli and Benjamini 1999, Journal of
    Statistical Planning and Inference 82, 171-196. Raises ``ValueError`` for a p-value outside
    0..1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError("p-values lie within 0..1")
    return [float(value) for value in false_discovery_control(p)] if len(p) else []
