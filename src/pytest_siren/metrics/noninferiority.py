"""Whether a difference is shown to be no worse than a margin, or to lie between two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from pytest_siren.metrics.difference import Difference

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tost:
    """Two one-sided t tests of a mean difference."""

    p_above: float
    """Of the hypothesis that the mean is not above the lower bound."""
    p_below: float
    """Of the hypothesis that the mean is not below the upper bound."""

    @property
    def p(self) -> float:
        """The larger of both: small where the mean is shown to lie between the bounds."""
        return max(self.p_above, self.p_below)


@dataclass(frozen=True)
class NonInferiority:
    """Whether a measure has worsened by less than a margin."""

    margin: float
    p: float
    """One-sided, of the hypothesis that it has worsened by the margin or more."""
    shown: bool


def tost(differences: Floats, low: float, high: float) -> Tost:
    """Return both one-sided tests of ``low < mean < high``. Alone, each is one of non-inferiority.

    Source: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680. Where all
    differences are the same, their mean is taken for certain. Raises ``ValueError`` with fewer than
    two differences, or unless ``low < high``.
    """
    n = len(differences)
    if n < 2 or not low < high:
        raise ValueError(f"a test needs two differences and low < high, not {n}, {low}, {high}")
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / n**0.5
    return Tost(_upper_tail(mean - low, error, n - 1), _upper_tail(high - mean, error, n - 1))


def non_inferior(
    difference: Difference, margin: float, *, higher_is_worse: bool, confidence: float = 0.95
) -> NonInferiority:
    """Test whether the measure has worsened by less than ``margin``, a share from 0 to 1.

    The one-sided t test of ``tost``, with the half of the interval of ``mean_difference`` on the
    side of what is worse in place of the standard error: so it respects clusters, is blind to
    nothing where no pair differs, and agrees with the interval. Raises ``ValueError`` for a margin
    that is not above 0.
    """
    if not margin > 0.0:
        raise ValueError(f"the margin must be above 0, not {margin}")
    freedom = difference.clusters - 1
    if freedom < 1:
        return NonInferiority(margin, 1.0, shown=False)
    value = difference.value
    worsening, half = (
        (value, difference.high - value) if higher_is_worse else (-value, value - difference.low)
    )
    error = half / float(student.ppf((1.0 + confidence) / 2.0, freedom))
    p = _upper_tail(margin - worsening, error, freedom)
    return NonInferiority(margin, p, shown=p < 1.0 - confidence)


def _upper_tail(distance: float, error: float, freedom: int) -> float:
    if error == 0.0:
        return 0.0 if distance > 0.0 else 1.0
    return float(student.sf(distance / error, freedom))
