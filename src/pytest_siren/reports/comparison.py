"""The data of a report that compares two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.jobs.baselines.baseline import Source
from pytest_siren.jobs.differences import Difference, differences
from pytest_siren.jobs.reading.read import load_config
from pytest_siren.metrics.compare.paired import Comparison
from pytest_siren.metrics.compare.significance import PairedTestResult
from pytest_siren.text.words import counted

_SHARED = ("agent", "model", "attack")


@dataclass(frozen=True)
class Side:
    """A short description of one side of a comparison."""

    target: str
    where: str
    """``4 jobs``, ``1 baseline file`` ..."""
    contents: tuple[str, ...]
    """Datasets, agents, models and attacks, each as ``model m``."""
    runs: int
    errors: int
    cancelled: int
    pending: int
    """Runs that are needed and have not ended."""
    notes: tuple[str, ...]
    """Notes on runs that were not needed, in a line each."""


@dataclass(frozen=True)
class ComparisonReport:
    """Two sides, with the differences of their configurations and of their scores."""

    left: Side
    right: Side
    differences: tuple[str, ...]
    """A line for each key of the configuration that differs, with both values."""
    comparison: Comparison

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on runs that were not needed, in a line each."""
        return tuple(dict.fromkeys((*self.left.notes, *self.right.notes)))

    @property
    def worse(self) -> bool:
        """Whether the right side is worse, or not shown to be non-inferior."""
        return bool(self.comparison.worse or self.comparison.not_shown)

    @property
    def undecided(self) -> tuple[PairedTestResult, ...]:
        """Measures over all pairs whose interval and q contradict each other.

        None with a margin that was shown: then the interval says by how little B is worse.
        """
        if self.comparison.margin is not None:
            return ()
        return tuple(test for test in self.comparison.undecided if test.group == "all")

    @property
    def verdict(self) -> str:
        """One sentence: the result of the comparison."""
        found = self.comparison
        if found.worse:
            return f"B is worse: {'; '.join(_changed(test) for test in found.worse)}"
        if found.not_shown:
            missed = ", ".join(test.measure for test in found.not_shown)
            return f"not shown that B worsens by less than {found.margin:g}: {missed}"
        if found.uncompared:
            return (
                f"not compared, for no pair is scored on both sides: {', '.join(found.uncompared)}"
            )
        if self.undecided:
            return f"undecided: {'; '.join(_contrary(test) for test in self.undecided)}; run more"
        if found.margin is not None:
            return f"B is not worse than A by {found.margin:g} or more"
        if found.undecided:
            groups = ", ".join(f"{test.measure} ({test.group})" for test in found.undecided)
            return (
                "over all pairs B is not significantly worse; single intervals exclude zero, as "
                f"chance alone makes some do, and no q is small enough: {groups}"
            )
        return "B is not significantly worse"


def report(left: Source, right: Source, comparison: Comparison) -> ComparisonReport:
    """Return the report on a comparison of ``left`` and ``right``. Raises ``RecordError``."""
    return ComparisonReport(_side(left), _side(right), tuple(_differences(left, right)), comparison)


def as_json(found: ComparisonReport) -> dict[str, Any]:
    """Return the report as JSON data. ``docs/how-to/compare.md`` explains it."""
    return {**asdict(found), "worse": found.worse, "verdict": found.verdict}


def _side(source: Source) -> Side:
    status = source.runs["status"].astype(str).value_counts()
    kind, number = (
        ("job", len(source.jobs)) if source.jobs else ("baseline file", len(source.files))
    )
    return Side(
        target=source.target,
        where=counted(number, kind),
        contents=tuple(
            f"{column} {', '.join(names)}"
            for column in ("dataset", *_SHARED)
            if (names := _names(source.runs, column))
        ),
        runs=len(source.runs),
        errors=int(status.get("error", 0)),
        cancelled=int(status.get("cancelled", 0)),
        pending=source.pending,
        notes=source.notes,
    )


def _differences(left: Source, right: Source) -> list[str]:
    """Return the distinct differences between configurations of the same dataset."""
    if not (left.jobs and right.jobs):
        return _differences_of_columns(left.runs, right.runs)
    found: list[str] = []
    ours, theirs = _configurations(left), _configurations(right)
    for part, one in ours.items():
        if part in theirs:
            found += map(str, _between(one, theirs[part]))
    return list(dict.fromkeys(found))


def _between(left: Path, right: Path) -> list[Difference]:
    return differences(load_config(left).values, load_config(right).values)


def _configurations(source: Source) -> Mapping[tuple[str, bool], Path]:
    """Return the first job of each dataset, with and without an attack."""
    jobs = source.runs[["dataset", "attack", "job"]].drop_duplicates().astype(object)
    found: dict[tuple[str, bool], Path] = {}
    for dataset, attack, job in jobs.itertuples(index=False):
        found.setdefault((str(dataset), bool(pd.isna(attack))), Path(str(job)))
    return found


def _differences_of_columns(left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """Return the differences between the columns that baseline files hold of configurations."""
    lines = [
        str(Difference(column, ", ".join(ours), ", ".join(theirs)))
        for column in _SHARED
        if (ours := _names(left, column)) != (theirs := _names(right, column))
    ]
    ours, theirs = _names(left, "identity"), _names(right, "identity")
    if not lines and ours != theirs:
        lines.append("another configuration, of which a baseline file keeps nothing but the names")
    return lines


def _names(runs: pd.DataFrame, column: str) -> Sequence[str]:
    return sorted(str(name) for name in runs[column].dropna().unique())


def _changed(test: PairedTestResult) -> str:
    group = "" if test.group == "all" else f" ({test.group})"
    return f"{test.measure}{group} {test.left:.3f} -> {test.right:.3f}, q {p_text(test.q)}"


def _contrary(test: PairedTestResult) -> str:
    found = test.difference
    return (
        f"the interval of {test.measure}, {found.low:+.3f} to {found.high:+.3f}, excludes zero on "
        f"the worse side, but p {p_text(test.p)}, q {p_text(test.q)} over "
        f"{found.clusters:,} independent tasks does not reach the level"
    )


def p_text(p: float | None) -> str:
    """Return a p-value with four decimals."""
    if p is None:
        return "n/a (pairs share tasks)"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"
