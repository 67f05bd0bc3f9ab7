"""Runs of a job that nobody needs, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_siren.jobs.facts import JobFacts
from pytest_siren.spec.errors import printable

if TYPE_CHECKING:
    import pandas as pd

OTHERS = "other rates are those of first runs"


def not_needed_line(job: str, facts: JobFacts) -> list[str]:
    """Return what a reader of rates must know, on one line; none where every run is needed."""
    if not (facts.not_needed or facts.decided):
        return []
    measures = ", ".join((facts.decided or "").split())
    one = f"job {printable(job)}: "
    if not facts.not_needed:
        return [f"{one}{_may_have(measures)}"]
    counts = f"{facts.not_needed:,} of {facts.planned or 0:,} runs not needed"
    if not measures:
        return [f"{one}{counts} (the gates were settled without them)"]
    return [f"{one}{counts} ({measures} of their tasks was decided); {OTHERS}"]


def of_baseline_line(runs: pd.DataFrame) -> Iterator[str]:
    """Yield the same of each baseline file, which does not tell how many runs were not needed."""
    early = runs[runs["decided"].notna().to_numpy()]
    pairs = zip(early["job"].astype(str), early["decided"].astype(str), strict=True)
    for file, names in dict.fromkeys(pairs):
        yield f"{printable(PurePath(file).name)}: {_may_have(', '.join(names.split()))}"


def _may_have(measures: str) -> str:
    return f"its tasks may have ended early, once {measures} was decided; {OTHERS}"
