"""What begins with the first eval file of a process."""

from __future__ import annotations

import pytest

from pytest_siren.evaluation.components import Registry
from pytest_siren.session.costoptions import prices
from pytest_siren.session.folder import SessionFolder
from pytest_siren.session.garbage import give_back
from pytest_siren.session.job import Workshop
from pytest_siren.session.lull import Lull
from pytest_siren.session.options import run_timeout
from pytest_siren.session.recorder import JsonRecorder
from pytest_siren.session.runner import Evaluations
from pytest_siren.session.state import EVALUATIONS, SESSION
from pytest_siren.session.writer import Writer
from pytest_siren.sharing.spend import BoardSpend


def start(config: pytest.Config) -> Evaluations:
    """Return this process's evaluations, made when the first eval file is seen."""
    if EVALUATIONS not in config.stash:
        give_back()
        registry = Registry()
        config.hook.pytest_siren_components_register.call_historic(kwargs={"registry": registry})
        lull = Lull()
        recorder = JsonRecorder(config, Writer(lull))
        board = SessionFolder.of(config.stash[SESSION].id).board()
        evaluations = Evaluations(
            config,
            Workshop(registry, prices(config), BoardSpend(board)),
            recorder,
            board,
            lull,
            run_timeout=run_timeout(config),
        )
        config.stash[EVALUATIONS] = evaluations
        config.pluginmanager.register(recorder, "siren-json-recorder")
        config.pluginmanager.register(evaluations, "siren-evaluations")
    return config.stash[EVALUATIONS]
