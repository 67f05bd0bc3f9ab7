"""Records the runs that ``--gate-stop`` skipped, in the jobs and for the session's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from pytest_siren.jobs.reading.job_config import (
    JobSummary,
    RecordError,
    job_summary,
    skipped_runs_line,
)
from pytest_siren.jobs.writing.config_update import settle
from pytest_siren.metrics.rates.measures import EndedRun, PassAtKByJob, PassAtKTracker, joined_names
from pytest_siren.payloads import RunReport
from pytest_siren.session.config.stash import DECIDED, NOT_NEEDED, NOT_NEEDED_LINES
from pytest_siren.text.words import printable

if TYPE_CHECKING:
    import pandas as pd

    from pytest_siren.session.gating.early_stopping.controller import EarlyStoppingController
    from pytest_siren.session.gating.manifest import RunManifest


def record_skipped_runs(
    config: pytest.Config,
    reports: Sequence[RunReport],
    plan: Sequence[RunManifest],
    early_stopping: EarlyStoppingController | None,
) -> None:
    """Record for each job how many runs were not needed, or 0 if it is complete.

    A failure to record becomes a warning: the job then counts as incomplete.
    """
    tracker = early_stopping.tracker if early_stopping is not None else None
    if tracker is not None:
        config.stash[NOT_NEEDED] = _left_in_session(tracker, reports, plan)
    why_not = dict.fromkeys(why for one in plan for why in one.not_early)
    lines = [f"--gate-stop: no task ended early: {printable(why, 200)}" for why in why_not]
    decided: dict[str, str] = {}
    for job, identity in dict.fromkeys((one.job, one.identity) for one in reports):
        asked = tracker.jobs.get(identity, ()) if tracker is not None else ()
        early = {identity: asked} if asked else {}
        try:
            facts = _concluded(
                Path(job), early, settled=bool(early_stopping and early_stopping.settled)
            )
        except (RecordError, OSError) as error:
            warning = f"{job}: runs that were not needed cannot be noted: {error}"
            config.issue_config_time_warning(pytest.PytestWarning(warning), stacklevel=2)
            if asked:
                decided[identity] = joined_names(asked)
            continue
        if facts.decided:
            decided[identity] = facts.decided
            lines += skipped_runs_line(Path(job).name, facts)
    config.stash[DECIDED] = decided
    config.stash[NOT_NEEDED_LINES] = lines


def _left_in_session(
    tracker: PassAtKTracker, reports: Sequence[RunReport], plan: Sequence[RunManifest]
) -> int:
    """Return the number of planned runs of decided tasks that were not executed."""
    ended = {(one.identity, one.task_id, one.run_index) for one in reports}
    decided = (
        (identity, task.id, task.runs)
        for one in plan
        for task in one.tasks
        if (identity := str(one.jobs[task.job]["identity"]), task.id) in tracker.decided
    )
    return sum(
        (identity, task, run_index) not in ended
        for identity, task, runs in decided
        for run_index in runs
        if run_index
    )


def _concluded(job: Path, early: PassAtKByJob, *, settled: bool) -> JobSummary:
    """Record the skipped runs of ``job`` and return its summary."""
    facts = job_summary(job)
    if not (facts.decided or facts.not_needed or settled):
        return facts
    # pandas is slow to import, and most sessions have nothing to record.
    from pytest_siren.jobs.frame.table import read_runs

    runs = read_runs([job]).runs
    ended = runs[runs["status"].isin(("scored", "error")).to_numpy()]
    planned = facts.planned or 0
    left = max(0, planned - len(ended))
    if not left:
        facts = replace(facts, decided=None, not_needed=0)
    elif early or settled:
        facts = replace(facts, not_needed=left if settled else min(left, _left(ended, early)))
    settle(job, (facts.decided or "").split(), facts.not_needed)
    return facts


def _left(ended: pd.DataFrame, early: PassAtKByJob) -> int:
    """Return the number of runs of decided tasks that have not ``ended``."""
    tracker = PassAtKTracker(early)
    for row in ended.itertuples(index=False):
        tracker.add(str(row.identity), str(row.task_id), cast(EndedRun, row))
    keys = (ended[name].astype(object) for name in ("identity", "task_id", "run_index"))
    return sum(tracker.left(zip(*keys, strict=True)).values())
