"""The plugin's entry: options, hooks and the first look at files. Standard library and pytest only.

The rest is imported when the first eval file is seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren import hookspecs
from pytest_siren.session.options import add_options, check_options
from pytest_siren.session.reporting import Reporting
from pytest_siren.session.state import SESSION, decide, for_worker

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
    config.stash[SESSION] = decide(config)
    config.pluginmanager.register(Reporting(config), "siren-reporting")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what the controller decided."""
    node.workerinput["siren_session"] = for_worker(node.config.stash[SESSION])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> EvalFile | None:
    """Collect ``eval_*.yaml``, and any YAML file that the command line names."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not file_path.name.startswith("eval_") and not parent.session.isinitpath(file_path):
        return None
    from pytest_siren.session.collect import EvalFile
    from pytest_siren.session.runner import start

    start(parent.config)
    return EvalFile.from_parent(parent, path=file_path)
