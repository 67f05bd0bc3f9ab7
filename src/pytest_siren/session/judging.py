"""Brings together what gates are judged by: what was planned, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import pytest

from pytest_siren.hookspecs import RunReport
from pytest_siren.metrics.gate_runs import PENDING
from pytest_siren.metrics.gates import Baseline, Judging, evaluate
from pytest_siren.metrics.reported import runs_of
from pytest_siren.metrics.runs import COLUMNS, INTEGERS, table
from pytest_siren.metrics.verdicts import GateResult
from pytest_siren.session.folder import SessionFolder
from pytest_siren.session.garbage import no_collections
from pytest_siren.session.gateoptions import on_point
from pytest_siren.session.planned import Planned, planned
from pytest_siren.session.rateoptions import chosen_cluster
from pytest_siren.session.state import SESSION
from pytest_siren.spec.gates import Gate


def judge(
    config: pytest.Config,
    gates: Sequence[Gate],
    reports: Sequence[RunReport],
    plan: Sequence[Planned],
    baseline: Baseline | None,
) -> list[GateResult]:
    """Return what came of ``gates``, given what was planned and the reports of this session."""
    judging = Judging(point=on_point(config), cluster=chosen_cluster(config), baseline=baseline)
    with no_collections():
        pending = _pending(plan, reports)
        return evaluate(gates, runs_of(reports), pending=pending, judging=judging)


def plan_of(session: pytest.Session) -> list[Planned]:
    """Return what each process with jobs of its own has planned; usually that is one."""
    config = session.config
    if config.pluginmanager.get_plugin("siren-controller") is None:
        return [planned(config, getattr(session, "items", ()))]
    folder = SessionFolder.of(config.stash[SESSION].id)
    return [Planned.from_plain(data) for data in folder.planned()]


def _pending(plan: Iterable[Planned], reports: Iterable[RunReport]) -> pd.DataFrame:
    """Return a row for each planned run that nothing was reported of."""
    known = {(report.identity, report.job, report.task_id, report.run_index) for report in reports}
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for one in plan:
        for task in one.tasks:
            job = one.jobs[task.job]
            task_id = task.benign if task.malicious is None else f"{task.benign}:{task.malicious}"
            row = {
                **dict.fromkeys(COLUMNS),
                **dict.fromkeys(INTEGERS, 0),
                **job,
                "task_id": task_id,
                "benign_task": task.benign,
                "malicious_task": task.malicious,
                "status": PENDING,
            }
            for run_index in task.runs:
                if (job["identity"], job["job"], task_id, run_index) not in known:
                    for name, value in {**row, "run_index": run_index}.items():
                        columns[name].append(value)
    return table(columns)
