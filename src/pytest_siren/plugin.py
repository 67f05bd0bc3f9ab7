"""The plugin's entry: options, hooks and the first look at files. Standard library and pytest only.

The rest is imported when the first eval file is seen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren import hookspecs
from pytest_siren.distribute.choice import executor_for
from pytest_siren.session.config.option_groups import OptionNames
from pytest_siren.session.config.options import (
    RunMode,
    add_options,
    asks_for_evaluations,
    check_options,
    run_mode,
)
from pytest_siren.session.config.processes import EXECUTOR, executor_of, is_worker
from pytest_siren.session.config.stash import EVALUATIONS, SESSION, forget_latest

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from pytest_siren.agents.function import SirenRun
    from pytest_siren.evaluation.tasks import Dataset
    from pytest_siren.session.collection.eval_file import EvalFile


_MARK = (
    "siren(dataset=..., attack=..., model=..., runs=..., gates=...): the function is the agent of "
    "an evaluation; the arguments are the keys of an eval file"
)


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
    config.addinivalue_line("markers", _MARK)
    if run_mode(config) is not RunMode.NORMAL:
        from pytest_siren.session.collection.modes.choose import use_mode

        use_mode(config)  # before there is an executor: a mode needs none that has workers
    if config.getoption("siren_show_config"):
        from pytest_siren.session.collection.show_config import ShowConfig

        config.option.collectonly = True  # as far as all other parts are concerned
        config.pluginmanager.register(ShowConfig(), "siren-show-config")
    executor = config.stash[EXECUTOR] = executor_for(config)
    check_options(config)
    if executor.begins_early or (not is_worker(config) and asks_for_evaluations(config)):
        from pytest_siren.session.lifecycle.begin import begin

        begin(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> EvalFile | None:
    """Collect ``eval_*.yaml``, and any YAML file that the command line names."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not file_path.name.startswith("eval_") and not parent.session.isinitpath(file_path):
        return None
    from pytest_siren.session.lifecycle.begin import collect

    return collect(file_path, parent)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Collector, name: str, obj: object
) -> Generator[None, Any, Any]:
    """Collect the runs of functions that are marked ``siren``, instead of the functions."""
    found = yield
    marks = getattr(obj, "pytestmark", None) if isfunction(obj) else None
    if not marks or not any(mark.name == "siren" for mark in marks):
        return found
    from pytest_siren.session.lifecycle.begin import collect_function

    return collect_function(collector, name, obj, found)


@pytest.fixture
def siren_run(request: pytest.FixtureRequest) -> SirenRun:
    """The run of a function that is marked ``siren``, which is its agent."""
    run: SirenRun | None = getattr(request.node, "run", None)
    if run is None:
        pytest.fail("siren_run is for functions that are marked: @pytest.mark.siren(dataset=...)")
    return run


@pytest.fixture
def siren_model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """The model of the run, or in other tests that of ``--model`` or of an indirect parameter.

    Its requests keep to the rate limits, and are counted and priced.
    """
    from pytest_siren.session.lifecycle.parts import model_for

    yield from model_for(request)


@pytest.fixture(scope="module")
def siren_dataset(request: pytest.FixtureRequest) -> Dataset:
    """The dataset of an indirect parameter: a name or what an eval file has under ``dataset``."""
    from pytest_siren.session.lifecycle.parts import dataset_for

    return dataset_for(request)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the executor what was collected."""
    config = session.config
    if EVALUATIONS not in config.stash:
        return
    if config.getoption("siren_gate_stop"):
        from pytest_siren.session.gating.early_stopping.sequential_gates import (
            order_and_prune_items,
        )

        order_and_prune_items(session)
    if (mode := config.pluginmanager.get_plugin("siren-mode")) is not None:
        mode.take_collected(session)
    executor_of(config).collected(session)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Execute runs side by side, where there are any."""
    config = session.config
    return (EVALUATIONS in config.stash and executor_of(config).execute(session)) or None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note that evaluations were not what ran last."""
    config = session.config
    if SESSION not in config.stash and not is_worker(config):
        forget_latest(session)
