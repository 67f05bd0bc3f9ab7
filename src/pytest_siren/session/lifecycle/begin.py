"""What a session with evaluations begins with, in every process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.session.config.figure_options import (
    check_stop,
    on_github,
    option_gates,
    results_asked,
    targets,
)
from pytest_siren.session.config.processes import is_worker
from pytest_siren.session.config.stash import SESSION
from pytest_siren.session.execution.gc_tuning import no_collections
from pytest_siren.session.gating.plugin import Gating, baseline
from pytest_siren.session.lifecycle.info import decide
from pytest_siren.session.reporting.progress.plugin import ProgressReporting
from pytest_siren.session.reporting.terminal import LostRecords, Reporting

if TYPE_CHECKING:
    from pytest_siren.session.collection.eval_file import EvalFile


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
