"""What begins with the first eval file of a process, and the note before a first spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.evaluators.python import ProjectRoot
from pytest_siren.session.collection.eval_file import AskedTaskIds
from pytest_siren.session.config.option_groups import prices
from pytest_siren.session.config.options import names, run_timeout
from pytest_siren.session.config.processes import executor_of, is_worker
from pytest_siren.session.config.registry import RegistrationError, registry
from pytest_siren.session.config.stash import EVALUATIONS
from pytest_siren.session.execution.event_loop import Lull, give_back
from pytest_siren.session.execution.executor import Evaluations, evaluations_of
from pytest_siren.session.execution.run_loop import OtherPlugins
from pytest_siren.session.items.job import RunItem, Workshop
from pytest_siren.session.recording.recorder import RECORDER, JsonRecorder, Writer
from pytest_siren.session.resume.resolve import noted
from pytest_siren.sharing.state import SharedSpend, SharedState, SharedStateError
from pytest_siren.text.words import counted, printable

if TYPE_CHECKING:
    from pytest_siren.evaluation.pricing import Prices
    from pytest_siren.session.execution.executor import Evaluations


_NAME = 80
"""Cells that the name of a model may take."""


@dataclass(frozen=True, eq=False)
class FirstSpend:
    """Announces what a session of one process is about to spend."""

    evaluations: Evaluations

    def pytest_report_collectionfinish(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> list[str]:
        """Show it below the number of collected items."""
        return announcement(config, paid_runs(items, self.evaluations.workshop.prices))


def is_unasked(config: pytest.Config) -> bool:
    """Whether evaluations that are collected are those of a bare ``pytest``, for the first time.

    Whoever names files or folders, on the command line or with ``testpaths``, asks for them.
    """
    option = config.getoption
    bare = config.args_source is config.ArgsSource.INVOCATION_DIR
    asked = option("siren_resume") or config.option.collectonly
    return bare and not asked and noted(config) is None


def paid_runs(items: Iterable[pytest.Item], prices: Prices) -> dict[str, tuple[int, bool]]:
    """Return, for each model that may cost money, its runs and whether its price is known."""
    from pytest_siren.evaluation.models import ModelKind
    from pytest_siren.evaluation.pricing import is_free

    found: dict[str, int] = {}
    for item in items:
        if isinstance(item, RunItem) and item.job.model.kind is ModelKind.MODEL:
            found[item.job.model.id] = found.get(item.job.model.id, 0) + 1
    return {
        model: (runs, prices.known(model)) for model, runs in found.items() if not is_free(model)
    }


def announcement(config: pytest.Config, paid: Mapping[str, tuple[int, bool]]) -> list[str]:
    """Return what to show before the first of these runs; nothing if none may cost money."""
    if not paid:
        return []
    parts = [
        f"{counted(runs, 'run')} on {printable(model, _NAME)} "
        f"({'its price is known' if priced else 'no price is known'})"
        for model, (runs, priced) in paid.items()
    ]
    file = "pytest.ini" if config.inipath is None else config.inipath.name
    return [
        f"siren: the first evaluations of this project are about to begin: {', '.join(parts)}",
        "siren: pytest without arguments executes evaluations too; to run them by name only "
        f"(pytest evals), set testpaths in {printable(file, _NAME)} to the folders of your tests",
    ]


def start(config: pytest.Config) -> Evaluations:
    """Return this process's evaluations, made when the first eval file is seen.

    Raises ``pytest.Collector.CollectError`` when a hook that registers components raises.
    """
    if EVALUATIONS not in config.stash:
        give_back()
        components = _registry(config)
        lull = Lull()
        recorder = JsonRecorder(config, Writer(lull))
        board = _board(config)
        evaluations = Evaluations(
            config,
            Workshop(components, prices(config), SharedSpend(board), ProjectRoot(config.rootpath)),
            recorder,
            board,
            lull,
            run_timeout=run_timeout(config).seconds,
        )
        config.stash[EVALUATIONS] = evaluations
        config.stash[RECORDER] = recorder
        config.pluginmanager.register(evaluations, "siren-evaluations")
        if is_unasked(config) and not is_worker(config):
            config.pluginmanager.register(FirstSpend(evaluations), "siren-first-spend")
        config.pluginmanager.register(OtherPlugins(), "siren-other-plugins")
        if asked := names(config.getoption("siren_task_ids")):
            config.pluginmanager.register(AskedTaskIds(asked), "siren-task-ids")
        # Also where the hook of another plugin fails before the session is finished.
        config.add_cleanup(evaluations.close)
    return evaluations_of(config)


def _board(config: pytest.Config) -> SharedState:
    """Join the board of the session. Raises a collection error where there is no place for it."""
    try:
        return executor_of(config).join()
    except (OSError, SharedStateError) as error:
        message = f"evaluations need a temporary folder ($TMPDIR): {error}"
        raise pytest.Collector.CollectError(message) from None


def _registry(config: pytest.Config) -> Registry:
    try:
        return registry(config)
    except RegistrationError as error:
        raise pytest.Collector.CollectError(str(error)) from error
