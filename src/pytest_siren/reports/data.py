"""What every report is made of, whether at the end of a session or of recorded jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_siren.metrics.choices import Cluster
from pytest_siren.metrics.verdicts import GateResult


@dataclass(frozen=True)
class Change:
    """How a measure differs from a baseline, over pairs of runs that are scored in both."""

    measure: str
    before: float | None
    """Of the baseline, 0..1; ``None`` where no pair is scored on both sides."""
    after: float | None
    """Of these runs."""
    low: float | None
    """The interval of the difference, these runs minus baseline; -1..1."""
    high: float | None
    pairs: int
    left_out: int
    """Runs of either side without a scored counterpart."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """All that a report may say. Texts in it are data of models and datasets: escape them."""

    title: str
    """One line."""
    runs: pd.DataFrame
    """The table of ``metrics/runs.py`` with two more columns, of the attempt that counts: ``path``,
    its folder relative to the job's, and ``run_id``."""
    folders: tuple[Path, ...]
    """Absolute folders of the jobs, in the order in which they are shown."""
    root: Path
    """Absolute; paths inside it are shown relative to it."""
    made_at: datetime
    """With its time zone."""
    source_root: Path | None = None
    """Folder that a code host checks out, where that is not ``root`` but one above it."""
    cluster: Cluster = Cluster.COUPLE
    """What intervals take for alike."""
    ks: tuple[int, ...] = ()
    """Numbers of runs that pass@k is shown for; 1 is shown anyway."""
    gates: tuple[GateResult, ...] = ()
    problems: tuple[str, ...] = ()
    """Jobs and lines that could not be read, and whatever else limits what the report can say."""
    notes: tuple[str, ...] = ()
    """What a reader of the rates must know of runs that were not needed, in a line each."""
    planned: Mapping[str, int] = field(default_factory=dict)
    """Runs of each job, by the ``job`` of the table of runs, that are needed and have or have not
    come to an end; without a job where that is not known."""
    pending: int = 0
    """Runs, of all jobs, that have not come to an end."""
    wall_time: float | None = None
    """Seconds that the session took; ``None`` for recorded jobs."""
    resume: str | None = None
    """The command that executes what is left; ``None`` when nothing is."""
    reproduce: str | None = None
    """The command that makes the same runs again; ``None`` where it is not known."""
    comparison: Any = None
    """A ``metrics.paired.Comparison`` of these runs with ``baseline``, or ``None``."""
    baseline: str | None = None
    """Name of what these runs are compared with."""
    changes: tuple[Change, ...] = ()
    """What differs from ``baseline``, a measure each."""

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the measures over several runs that are shown."""
        ks = [k for k in dict.fromkeys(self.ks) if k > 1]
        return tuple(f"{stem}@{k}" for k in ks for stem in ("benign_pass", "attack_pass"))

    def shown(self, path: Path) -> str:
        """Return ``path`` relative to ``root`` when it lies inside, with forward slashes."""
        inside = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return inside.as_posix()
