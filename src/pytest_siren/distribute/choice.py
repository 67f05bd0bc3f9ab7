"""Which executor a process has. Loaded by every pytest session, so nothing but the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_siren.session.config.processes import Executor


def executor_for(config: pytest.Config) -> Executor:
    """Return the executor that the options of ``config`` ask for.

    To be called when pytest configures the session, after options have their final values.
    """
    if hasattr(config, "workerinput"):
        from pytest_siren.distribute.xdist.process import Worker

        return Worker(config)
    distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", None)
    if distributed and not config.option.collectonly:
        from pytest_siren.distribute.xdist.process import Controlling

        return Controlling(config)
    from pytest_siren.distribute.alone import Alone

    return Alone(config)
