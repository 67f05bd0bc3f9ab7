"""What begins with the first eval file of a process."""

from __future__ import annotations

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.evaluation.failures import UserInterrupt, one_line
from pytest_siren.evaluators.importing import ProjectRoot
from pytest_siren.session.costoptions import prices
from pytest_siren.session.first_spend import FirstSpend, is_unasked
from pytest_siren.session.folder import SessionFolder, sweep_temporary
from pytest_siren.session.garbage import give_back
from pytest_siren.session.interrupts import marked_interrupts
from pytest_siren.session.job import Workshop
from pytest_siren.session.lull import Lull
from pytest_siren.session.options import names, run_timeout
from pytest_siren.session.other_plugins import OtherPlugins
from pytest_siren.session.recorder import JsonRecorder
from pytest_siren.session.runner import Evaluations
from pytest_siren.session.state import EVALUATIONS, SESSION, is_worker
from pytest_siren.session.task_ids import AskedTaskIds
from pytest_siren.session.writer import Writer
from pytest_siren.sharing.board import Board, BoardError
from pytest_siren.sharing.spend import BoardSpend


def start(config: pytest.Config) -> Evaluations:
    """Return this process's evaluations, made when the first eval file is seen.

    Raises ``pytest.Collector.CollectError`` when a hook that registers components raises.
    """
    if EVALUATIONS not in config.stash:
        give_back()
        registry = _registry(config)
        lull = Lull()
        recorder = JsonRecorder(config, Writer(lull))
        board = _board(config)
        evaluations = Evaluations(
            config,
            Workshop(registry, prices(config), BoardSpend(board), ProjectRoot(config.rootpath)),
            recorder,
            board,
            lull,
            run_timeout=run_timeout(config).seconds,
        )
        config.stash[EVALUATIONS] = evaluations
        config.pluginmanager.register(evaluations, "siren-evaluations")
        if is_unasked(config) and not is_worker(config):
            config.pluginmanager.register(FirstSpend(evaluations), "siren-first-spend")
        config.pluginmanager.register(OtherPlugins(), "siren-other-plugins")
        if asked := names(config.getoption("siren_task_ids")):
            config.pluginmanager.register(AskedTaskIds(asked), "siren-task-ids")
        # Also where the hook of another plugin fails before the session is finished.
        config.add_cleanup(evaluations.close)
    return config.stash[EVALUATIONS]


def _board(config: pytest.Config) -> Board:
    """Join the board of the session. Raises a collection error where there is no place for it."""
    try:
        folder = SessionFolder.of(config.stash[SESSION].id)
        if not is_worker(config):
            sweep_temporary()
        return folder.board()
    except (OSError, BoardError) as error:
        message = f"evaluations need a temporary folder ($TMPDIR): {error}"
        raise pytest.Collector.CollectError(message) from None


def _registry(config: pytest.Config) -> Registry:
    registry = Registry()
    with marked_interrupts():
        try:
            config.hook.pytest_siren_components_register.call_historic(
                kwargs={"registry": registry}
            )
        except UserInterrupt:
            raise
        except BaseException as error:
            # pytest would take some for a folder that is skipped, or for the end of the session.
            message = f"pytest_siren_components_register: {one_line(error)}"
            raise pytest.Collector.CollectError(message) from error
    return registry
