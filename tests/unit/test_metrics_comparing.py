"""Tests and effect sizes of pairs, against SciPy, statsmodels and published worked examples."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from pytest_siren.metrics.compare.difference import mean_difference, non_inferior, tost
from pytest_siren.metrics.compare.effects import (
    cliff_delta,
    cohen_d,
    effects,
    hodges_lehmann,
    meta_analysis,
    minimum_detectable,
    pairs_needed,
    power,
    wilcoxon_p,
)
from pytest_siren.metrics.compare.significance import (
    benjamini_hochberg,
    bootstrap,
    mcnemar,
    sign_flip_p,
)
from pytest_siren.metrics.rates.intervals import Clusters

BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
"""Hamilton depression scale, Hollander and Wolfe, Nonparametric Statistical Methods, table 3.1.

The same numbers are the paired example of R's ``wilcox.test``.
"""


def test_mcnemar_gives_the_published_value() -> None:
    """E73. Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91.

    Table 1 there, of Bentur et al. 2009: of 21 children 1, 1, 7 and 12; exact p 0.070.
    """
    found = mcnemar(7, 1)
    assert round(found.p, 3) == 0.070
    assert found.odds_ratio == pytest.approx(7.5 / 1.5)
    half = 1.959964 * np.sqrt(1 / 7.5 + 1 / 1.5)
    assert (found.low, found.high) == pytest.approx((5 * np.exp(-half), 5 * np.exp(half)))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 6), (12, 5), (150, 86), (3, 3)])
def test_mcnemar_agrees_with_statsmodels(gained: int, lost: int) -> None:
    theirs = their_mcnemar([[10, gained], [lost, 20]], exact=True).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost).p == pytest.approx(float(theirs), rel=1e-9)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        mcnemar(-1, 2)


def test_benjamini_and_hochbergs_own_example() -> None:
    """E76. Benjamini and Hochberg 1995, their example: four of fifteen are rejected at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert [q < 0.05 for q in benjamini_hochberg(p)] == [True] * 4 + [False] * 11


def test_the_running_minimum_goes_from_the_largest_p_down() -> None:
    """E76: from the smallest up, 0.0375 would have become 0.025 and the last two alike."""
    assert benjamini_hochberg([0.05, 0.011, 0.0125, 0.04]) == pytest.approx(
        [0.05, 0.025, 0.025, 0.05]
    )
    random = np.random.default_rng(0)
    for size in (1, 2, 17, 200):
        p = random.random(size) ** 3
        assert benjamini_hochberg(p.tolist()) == pytest.approx(
            multipletests(p, method="fdr_bh")[1].tolist()
        )
    assert benjamini_hochberg([]) == []
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        benjamini_hochberg([float("nan")])


def test_hodges_lehmann_and_wilcoxon_give_the_published_values() -> None:
    """E75. Hollander and Wolfe, example 3.1 and its sequel: estimate -0.46, two-sided p 0.0391."""
    assert hodges_lehmann(AFTER - BEFORE) == pytest.approx(-0.46)
    assert wilcoxon_p(AFTER - BEFORE) == pytest.approx(0.0390625)


@pytest.mark.parametrize("size", [1, 2, 9, 40])
def test_hodges_lehmann_is_the_median_of_walsh_averages(size: int) -> None:
    random = np.random.default_rng(size)
    for values in (random.normal(size=size), random.integers(-2, 3, size).astype(float)):
        walsh = [(values[i] + values[j]) / 2 for i in range(size) for j in range(i, size)]
        assert hodges_lehmann(values) == pytest.approx(np.median(walsh))


def test_hodges_lehmann_of_very_many_pairs() -> None:
    random = np.random.default_rng(1)
    scores = random.choice([-1.0, 0.0, 1.0], 1_000_000, p=[0.1, 0.1, 0.8])
    assert hodges_lehmann(scores) == 1.0
    assert hodges_lehmann(random.exponential(size=50_000)) == pytest.approx(0.839, abs=0.01)
    with pytest.raises(ValueError, match="no differences"):
        hodges_lehmann(np.array([]))


def test_cohens_d_is_that_of_the_differences() -> None:
    """E75. d_z is t over the root of n (Lakens 2013, formula 7)."""
    t = stats.ttest_rel(AFTER, BEFORE).statistic
    assert cohen_d(AFTER - BEFORE) == pytest.approx(float(t) / 3.0)
    assert cohen_d(np.ones(4)) is None
    assert cohen_d(np.ones(1)) is None


def test_cliffs_delta_is_the_rescaled_u_of_mann_and_whitney() -> None:
    """E75. Also by its definition, over all values of one side with all of the other."""
    assert cliff_delta(np.array([0.0]), np.array([1.0])) == 1.0
    for before, after in ((BEFORE, AFTER), (np.round(BEFORE), np.round(AFTER))):
        u = stats.mannwhitneyu(after, before).statistic
        found = cliff_delta(before, after)
        assert found == pytest.approx(2 * float(u) / 81 - 1)
        assert found == pytest.approx(np.mean([np.sign(b - a) for a, b in product(before, after)]))
    with pytest.raises(ValueError, match="both sides"):
        cliff_delta(BEFORE, np.array([]))


def test_wilcoxon_of_scores_agrees_with_scipy() -> None:
    random = np.random.default_rng(3)
    scores = random.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.7, 0.2])
    assert wilcoxon_p(scores) == pytest.approx(float(stats.wilcoxon(scores).pvalue))
    assert wilcoxon_p(np.zeros(5)) == 1.0
    assert effects(np.zeros(5), np.zeros(5)).cohen_d is None


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (-0.9, 0.2), (-0.1, 2.0)])
def test_two_one_sided_tests_agree_with_statsmodels(bounds: tuple[float, float]) -> None:
    """E79."""
    found = tost(AFTER - BEFORE, *bounds)
    p, above, below = ttost_paired(AFTER, BEFORE, *bounds)
    assert (found.p, found.p_above, found.p_below) == pytest.approx((p, above[1], below[1]))


def test_non_inferiority_is_a_one_sided_t_test_in_either_direction() -> None:
    """E79."""
    random = np.random.default_rng(4)
    values = random.choice([-1.0, 0.0, 1.0], 4_000, p=[0.02, 0.95, 0.03])
    found = mean_difference(values)
    theirs = stats.ttest_1samp(values, 0.02, alternative="less").pvalue
    worse_up = non_inferior(found, 0.02, higher_is_worse=True)
    assert worse_up.p == pytest.approx(float(theirs), rel=0.25)
    assert worse_up.shown
    worse_down = non_inferior(mean_difference(-values), 0.02, higher_is_worse=False)
    assert worse_down.p == pytest.approx(worse_up.p)
    assert not non_inferior(found, 0.01, higher_is_worse=True).shown
    assert non_inferior(found, 0.005, higher_is_worse=False).shown


def test_a_margin_asks_the_same_of_the_pairs_as_a_gate() -> None:
    """It is shown where the interval, on whose end a gate decides, is below the margin."""
    random = np.random.default_rng(7)
    found = mean_difference(random.choice([-1.0, 0.0, 1.0], 300, p=[0.05, 0.87, 0.08]))
    above, below = found.high + 0.0005, found.high - 0.0005
    tests = [non_inferior(found, margin, higher_is_worse=True) for margin in (above, below)]
    assert [one.shown for one in tests] == [True, False]
    assert 0.025 < tests[1].p < 0.05


def test_a_few_pairs_that_do_not_differ_show_nothing() -> None:
    assert tost(np.zeros(9), -0.1, 0.1).p == 0.0
    for values, clusters in (
        (np.zeros(9), None),
        (np.zeros(500), Clusters.of(np.zeros(500, dtype=np.int64))),
    ):
        found = mean_difference(values, clusters)
        assert not non_inferior(found, 0.1, higher_is_worse=True).shown
    assert non_inferior(mean_difference(np.zeros(100)), 0.1, higher_is_worse=True).shown
    for margin in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="margin must be above 0"):
            non_inferior(found, margin, higher_is_worse=True)
    with pytest.raises(ValueError, match="low < high"):
        tost(np.zeros(9), 0.1, 0.1)


BCG = np.array(
    [
        *([4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619]),
        *([33, 5036, 47, 5761], [180, 1361, 372, 1079], [8, 2537, 10, 619]),
        *([505, 87886, 499, 87892], [29, 7470, 45, 7232], [17, 1699, 65, 1600]),
        *([186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825]),
    ],
    dtype=float,
)
"""Thirteen trials of BCG vaccine (Colditz et al. 1994): cases and others, vaccinated and not."""


def test_meta_analysis_gives_the_published_values_and_agrees_with_statsmodels() -> None:
    """E77. Viechtbauer 2010, Journal of Statistical Software 36(3): the BCG trials."""
    a, b, c, d = BCG.T
    ratios = np.log((a / (a + b)) / (c / (c + d)))
    errors = np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
    found = meta_analysis(ratios.tolist(), errors.tolist())
    assert found.random.value == pytest.approx(-0.7141, abs=5e-5)
    assert found.q == pytest.approx(152.233, abs=5e-4)
    assert found.i_squared == pytest.approx(0.9212, abs=5e-5)
    assert found.tau_squared == pytest.approx(0.3088, abs=5e-5)
    theirs = combine_effects(ratios, errors**2, method_re="dl")
    fixed, random = theirs.conf_int(use_t=False)[0], theirs.conf_int(use_t=True)[3]
    assert (found.fixed.low, found.fixed.high) == pytest.approx(fixed)
    assert found.fixed.error == pytest.approx(theirs.sd_eff_w_fe)
    assert (found.random.low, found.random.high) == pytest.approx(random)
    assert found.random.error == pytest.approx(theirs.sd_eff_w_re_hksj)


def test_the_mean_of_few_suites_is_covered_as_often_as_it_says() -> None:
    """DerSimonian and Laird's normal interval covers 80 to 92 % of these."""
    random = np.random.default_rng(20)
    for suites in (2, 4, 6):
        errors = np.array([0.02, 0.03, 0.05, 0.04, 0.03, 0.06])[:suites]
        held = 0
        for _ in range(1_000):
            true = random.normal(0.1, 0.05, suites)
            found = meta_analysis(random.normal(true, errors).tolist(), errors.tolist())
            held += found.random.low <= 0.1 <= found.random.high
        assert held >= 930, suites


def test_meta_analysis_of_studies_that_agree() -> None:
    found = meta_analysis([0.1, 0.1, 0.1], [0.1, 0.2, 0.1])
    assert (found.tau_squared, found.i_squared) == (0.0, 0.0)
    assert found.random.value == pytest.approx(found.fixed.value)
    # With three studies nobody knows well how much they disagree.
    assert found.random.high > found.fixed.high + 0.05
    with pytest.raises(ValueError, match="two studies or more"):
        meta_analysis([0.1], [0.1])
    with pytest.raises(ValueError, match="errors above 0"):
        meta_analysis([0.1, 0.2], [0.1, 0.0])


def test_power_agrees_with_statsmodels() -> None:
    """E80."""
    for difference, pairs in ((0.05, 100), (0.2, 30), (0.0, 10), (-0.3, 12)):
        theirs = TTestPower().power(difference / 0.4, pairs, 0.05)
        assert power(difference, 0.4, pairs) == pytest.approx(float(theirs), abs=1e-6)
    theirs = TTestPower().solve_power(nobs=629, alpha=0.05, power=0.8)
    assert minimum_detectable(0.5, 629) == pytest.approx(0.5 * float(theirs), rel=1e-4)
    needed = pairs_needed(0.1, 0.5)
    assert needed == np.ceil(TTestPower().solve_power(effect_size=0.2, alpha=0.05, power=0.8))
    assert pairs_needed(0.0, 0.5) is None
    assert pairs_needed(9.0, 0.01) == 2
    with pytest.raises(ValueError, match="deviation above 0"):
        power(0.1, 0.0, 10)


def test_the_bootstrap_agrees_with_scipys() -> None:
    """E74."""
    random = np.random.default_rng(5)
    values = random.choice([-1.0, 0.0, 0.5, 1.0], 200)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=random)
    mine = bootstrap(values)
    assert mine == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)
    assert bootstrap(values) == mine
    assert bootstrap(values, seed=1) != mine


def test_the_bootstrap_draws_whole_clusters() -> None:
    values = np.repeat(np.random.default_rng(6).normal(size=50), 20)
    clusters = Clusters.of(np.repeat(np.arange(50), 20))
    low, high = bootstrap(values, clusters)
    apart = bootstrap(values[::20])
    assert (low, high) == pytest.approx(apart, abs=0.02)
    narrow = bootstrap(values)
    assert high - low > 3 * (narrow[1] - narrow[0])
    # Of unequal clusters the mean is over values, not over clusters.
    unequal = np.array([1.0] * 98 + [0.0, 0.0])
    assert bootstrap(unequal, Clusters.of(np.array([0] * 98 + [1, 2])), draws=100)[1] == 1.0


def test_flipped_signs_give_the_exact_p_of_small_samples() -> None:
    """E74."""
    values = np.array([0.5, 1.0, 1.0, -0.25, 0.75, 0.5])
    flips = np.array(list(product([-1, 1], repeat=6))) @ values
    exact = float(np.mean(np.abs(flips) >= values.sum() - 1e-12))
    assert sign_flip_p(values) == pytest.approx(exact)
    assert sign_flip_p(np.zeros(9)) == 1.0
    scores = np.array([1.0] * 12 + [-1.0] * 5)
    assert sign_flip_p(scores) == pytest.approx(mcnemar(12, 5).p)
    whole = np.ones(40), np.repeat(np.arange(4), 10)
    assert sign_flip_p(*whole) == 2 / 16
    with pytest.raises(ValueError, match="nothing to draw from"):
        sign_flip_p(np.array([]))


def test_sums_of_sixths_tie_in_the_permutation_test() -> None:
    """All 2 ** 10 assignments of signs, with whole numbers, give 0.1172."""
    one, other = (
        np.array([3, 3, 3, 3, 3, 3, 3, 3, 5, 3]),
        np.array([2, 2, 2, 2, 2, 3, 5, 2, 1, 2]),
    )
    exact = [
        abs(sum(sign * d for sign, d in zip(signs, other - one, strict=True)))
        >= abs((other - one).sum())
        for signs in product((-1, 1), repeat=10)
    ]
    assert np.mean(exact) == pytest.approx(0.1172, abs=1e-4)
    assert sign_flip_p(other / 6 - one / 6) == np.mean(exact)


def test_partial_scores_are_permuted_at_random_where_they_share_no_fraction() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, 12)
    flips = np.array(list(product([-1, 1], repeat=12))) @ values
    exact = np.mean(np.abs(flips) >= abs(values.sum()) - 1e-12)
    assert sign_flip_p(values) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p(values, seed=1) != sign_flip_p(values, seed=2)


def test_thirds_tie_in_wilcoxons_test() -> None:
    before = np.array([1 / 3] * 3 + [2 / 3] * 3 + [1.0] * 4)
    after = np.array([2 / 3] * 3 + [1 / 3] * 3 + [1.0] * 4)
    assert wilcoxon_p(after - before) == 1.0
