"""What a session with evaluations begins with, in every process: what it is, and what reports."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.session.config.invocation import Invocation, Resume, SessionInfo
from pytest_siren.session.config.option_groups import (
    check_stop,
    on_github,
    option_gates,
    results_asked,
    targets,
)
from pytest_siren.session.config.options import chosen_jobs_dir
from pytest_siren.session.config.processes import executor_of, is_worker
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.execution.event_loop import no_collections
from pytest_siren.session.gating.plugin import Gating, baseline
from pytest_siren.session.reporting.progress.plugin import ProgressReporting
from pytest_siren.session.reporting.terminal import LostRecords, Reporting
from pytest_siren.session.resume.resolve import resumed, set_aside

if TYPE_CHECKING:
    from pytest_siren.session.collection.eval_file import EvalFile


def decide(config: pytest.Config) -> SessionInfo:
    """Return this session's facts: new on a controller, the controller's on a worker.

    Raises ``pytest.UsageError`` for what cannot be gone on with.
    """
    values = executor_of(config).decided
    if values is not None:
        resume = values["resume"] and Resume(**values["resume"])
        if resume is not None:
            # A worker is started with the controller's command line, not with what came of it.
            asked = Invocation.from_plain(values["invocation"])
            asked.restore(config, with_args=True, with_filters=True)
        return SessionInfo(**{**values, "resume": resume})
    resume = resumed(config)
    jobs_dir = chosen_jobs_dir(config)
    if jobs_dir is None and resume is not None and resume.jobs_dir:
        jobs_dir = config.rootpath / resume.jobs_dir
    session_id = secrets.token_hex(8)
    return SessionInfo(
        id=session_id,
        records_id=session_id,
        started_at=datetime.now(UTC).timestamp(),
        jobs_dir=str(jobs_dir) if jobs_dir else None,
        invocation=Invocation.of(config).plain(),
        resume=resume,
        set_aside=set_aside(config),
    )


def for_process(info: SessionInfo, name: str, *, own_jobs: bool) -> dict[str, Any]:
    """Return ``info`` in the form that crosses to the process of that ``name``.

    With ``own_jobs`` it records in jobs of its own.
    """
    records_id = f"{info.id}-{name}" if own_jobs else info.id
    return {**asdict(info), "records_id": records_id}


def begin(config: pytest.Config, *, failed: bool = False) -> None:
    """Decide what the session is, and register what reports; only once, if called again.

    ``failed`` tells whether something could not be collected by now. Raises ``pytest.UsageError``
    for what options cannot mean.
    """
    if SESSION in config.stash:
        return
    session = config.stash[SESSION] = decide(config)
    plugins = config.pluginmanager
    plugins.register(Reporting(config), "siren-reporting")
    if not is_worker(config):
        plugins.register(ProgressReporting(config), "siren-progress")
        check_stop(config)
        gates = option_gates(config)
        compared = baseline(config, gates)
        plugins.register(Gating(config, gates, compared, failed), "siren-gating")
        if targets(config) or on_github(config):
            from pytest_siren.session.reporting.files import ReportFiles

            plugins.register(ReportFiles(config, compared), "siren-report-files")
        plugins.register(LostRecords(config), "siren-lost-records")
        if results_asked(config):
            from pytest_siren.session.reporting.results import Results

            plugins.register(Results(config), "siren-results")
    if session.resume is not None:
        from pytest_siren.session.resume.item_filter import Resuming, catch_up

        if not is_worker(config):
            catch_up(config, session.resume)
        plugins.register(Resuming(config, session.resume), "siren-resuming")


def collect(path: Path, parent: pytest.Collector) -> EvalFile | None:
    """Return the eval file at ``path``; ``None`` where this session leaves evaluations alone."""
    with no_collections():
        from pytest_siren.session.collection.eval_file import EvalFile
        from pytest_siren.session.lifecycle.start import start

        begin(parent.config, failed=parent.session.testsfailed > 0)
        if parent.config.stash[SESSION].set_aside is not None:
            return None
        start(parent.config)
    return EvalFile.from_parent(parent, path=path)
