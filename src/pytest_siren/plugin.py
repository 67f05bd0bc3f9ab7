"""The plugin's entry: options, hooks and the first look at files. Standard library and pytest only.

The rest is imported when the first eval file is seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren import hookspecs
from pytest_siren.session.config.option_names import OptionNames
from pytest_siren.session.config.options import (
    add_options,
    asks_for_evaluations,
    check_options,
    grace,
)
from pytest_siren.session.config.stash import EVALUATIONS, SESSION, is_worker
from pytest_siren.session.resume.last_session import forget_latest

if TYPE_CHECKING:
    from pytest_siren.session.collection.eval_file import EvalFile


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the plugin's own hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the ini keys; the options follow when all other plugins have added theirs."""
    names = OptionNames(parser, "siren", "evaluations of LLM agents (pytest-siren)")
    add_options(parser, names)
    pluginmanager.register(names, "siren-options")


def pytest_configure(config: pytest.Config) -> None:
    """Check the options; begin if they speak of evaluations, or if workers may find some."""
    check_options(config)
    if config.getoption("siren_show_config"):
        from pytest_siren.session.collection.show_config import ShowConfig

        config.option.collectonly = True  # as far as all other parts are concerned
        config.pluginmanager.register(ShowConfig(), "siren-show-config")
    if asks_for_evaluations(config) or config.getoption("dist", "no") != "no":
        from pytest_siren.session.lifecycle.begin import begin

        begin(config)


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
    from pytest_siren.session.lifecycle.info import for_worker

    info = for_worker(node.config.stash[SESSION], node.config.getvalue("dist"), node.gateway.id)
    node.workerinput["siren_session"] = info


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> EvalFile | None:
    """Collect ``eval_*.yaml``, and any YAML file that the command line names."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not file_path.name.startswith("eval_") and not parent.session.isinitpath(file_path):
        return None
    from pytest_siren.session.execution.gc_tuning import no_collections

    with no_collections():
        from pytest_siren.session.collection.eval_file import EvalFile
        from pytest_siren.session.lifecycle.begin import begin
        from pytest_siren.session.lifecycle.start import start

        begin(parent.config, failed=parent.session.testsfailed > 0)
        if parent.config.stash[SESSION].set_aside is not None:
            return None
        start(parent.config)
    return EvalFile.from_parent(parent, path=file_path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the controller which of the collected items are runs."""
    config = session.config
    if EVALUATIONS in config.stash and config.getoption("siren_gate_stop"):
        from pytest_siren.session.gating.early_stopping.sequential_gates import prepare

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
    from pytest_siren.session.execution.run_loop import has_runs, run_locally

    if not has_runs(session):
        return None
    if is_worker(config):
        from pytest_siren.distribute.worker import run_on_worker

        run_on_worker(session, config.stash[EVALUATIONS], grace(config))
    else:
        run_locally(session, config.stash[EVALUATIONS], grace(config))
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note that evaluations were not what ran last."""
    config = session.config
    if SESSION not in config.stash and not is_worker(config):
        forget_latest(session)
