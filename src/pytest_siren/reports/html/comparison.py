"""The comparison with a baseline, for the template."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_siren.metrics.compare.paired import Comparison, Increase, MeasureComparison
from pytest_siren.metrics.compare.pairing import UnpairedRuns, Unscored
from pytest_siren.metrics.compare.significance import PairedTestResult
from pytest_siren.text.words import counted


@dataclass(frozen=True)
class Line:
    """One measure over all pairs, or over those of a subgroup."""

    measure: str
    group: str
    """Empty for all pairs."""
    tested: PairedTestResult | None
    """``None`` if no pair is scored on both sides."""
    verdict: str
    """``better``, ``worse`` or ``unclear``, over all tests."""
    apart: tuple[str, ...]
    """Short notes on runs that could not be compared."""


def lines(comparison: Comparison | None) -> list[Line]:
    """Return the lines of a comparison; none without one."""
    if comparison is None:
        return []
    level = 1.0 - comparison.confidence
    return [line for one in comparison.measures for line in _lines(one, level)]


def _lines(one: MeasureComparison, level: float) -> list[Line]:
    apart = tuple(_apart(one.overlap))
    if not one.tests:
        return [Line(one.measure, "", None, "unclear", apart)]
    groups = ["", *(test.group for test in one.tests[1:])]
    return [
        Line(one.measure, group, test, _verdict(test, level), () if group else apart)
        for group, test in zip(groups, one.tests, strict=True)
    ]


def _verdict(test: PairedTestResult, level: float) -> str:
    if test.q >= level or not test.worsening:
        return "unclear"
    return "worse" if test.worsening > 0 else "better"


def _apart(one: Increase) -> list[str]:
    notes: list[str] = []
    if one.left_out:
        notes.append(f"{counted(one.left_out, 'pair')} without a score on both sides")
    notes += _unscored(one.unscored_baseline, "the baseline")
    notes += _unscored(one.unscored_runs, "these runs")
    notes += _alone(one.only_baseline, "in the baseline only")
    notes += _alone(one.only_runs, "in these runs only")
    return notes


def _unscored(found: Unscored, where: str) -> list[str]:
    counts = (
        counted(found.errors, "error") if found.errors else "",
        f"{found.cancelled:,} cancelled" if found.cancelled else "",
        f"{found.unknown:,} unknown" if found.unknown else "",
    )
    text = ", ".join(filter(None, counts))
    return [f"{text} in {where}"] if text else []


def _alone(found: UnpairedRuns, where: str) -> list[str]:
    if not found.runs:
        return []
    named = ", ".join([*found.datasets, *found.examples][:5])
    return [f"{counted(found.runs, 'run')} {where}" + (f" ({named})" if named else "")]
