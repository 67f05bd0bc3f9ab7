"""The plugin's entry: options, hooks and the first look at files. Standard library and pytest only.

The rest is imported when the first eval file is seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren import hookspecs
from pytest_siren.session.baselines import baseline
from pytest_siren.session.garbage import no_collections
from pytest_siren.session.gateoptions import check_stop, option_gates
from pytest_siren.session.gating import Gating
from pytest_siren.session.options import add_options, check_options
from pytest_siren.session.progress_reporting import ProgressReporting
from pytest_siren.session.report_files import ReportFiles
from pytest_siren.session.reporting import Reporting
from pytest_siren.session.results import Results, results_asked
from pytest_siren.session.state import EVALUATIONS, SESSION, decide, for_worker, is_worker

if TYPE_CHECKING:
    from pytest_siren.session.collect import EvalFile


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the plugin's own hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and ini keys."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and register what reports."""
    check_options(config)
    session = config.stash[SESSION] = decide(config)
    config.pluginmanager.register(Reporting(config), "siren-reporting")
    if not is_worker(config):
        config.pluginmanager.register(ProgressReporting(config), "siren-progress")
        check_stop(config)
        gates = option_gates(config)
        compared = baseline(config, gates)
        config.pluginmanager.register(Gating(config, gates, compared), "siren-gating")
        config.pluginmanager.register(ReportFiles(config, compared), "siren-report-files")
        if results_asked(config):
            config.pluginmanager.register(Results(config), "siren-results")
    if session.resume is not None:
        from pytest_siren.session.resuming import Resuming, catch_up

        if not is_worker(config):
            catch_up(config, session.resume)
        config.pluginmanager.register(Resuming(config, session.resume), "siren-resuming")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Look after xdist's workers, if this is their controller."""
    plugins = session.config.pluginmanager
    if (dsession := plugins.get_plugin("dsession")) is not None:
        from pytest_siren.distribute.controller import Controller

        plugins.register(Controller(session.config, dsession), "siren-controller")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what the controller decided."""
    info = for_worker(node.config.stash[SESSION], node.config.getvalue("dist"), node.gateway.id)
    node.workerinput["siren_session"] = info


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> EvalFile | None:
    """Collect ``eval_*.yaml``, and any YAML file that the command line names."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not file_path.name.startswith("eval_") and not parent.session.isinitpath(file_path):
        return None
    with no_collections():
        from pytest_siren.session.collect import EvalFile
        from pytest_siren.session.start import start

        start(parent.config)
    return EvalFile.from_parent(parent, path=file_path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the controller which of the collected items are runs."""
    config = session.config
    if EVALUATIONS in config.stash and config.getoption("gate_stop"):
        from pytest_siren.session.stopping import prepare

        prepare(session)
    if EVALUATIONS in session.config.stash and is_worker(session.config):
        from pytest_siren.distribute.worker import tell_collected

        tell_collected(session)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Execute runs side by side, where there are any."""
    config = session.config
    if EVALUATIONS not in config.stash:
        return None
    from pytest_siren.session.loop import has_runs, run_locally

    if not has_runs(session):
        return None
    grace = config.getoption("siren_grace")
    if is_worker(config):
        from pytest_siren.distribute.worker import run_on_worker

        run_on_worker(session, config.stash[EVALUATIONS], grace)
    else:
        run_locally(session, config.stash[EVALUATIONS], grace)
    return True
