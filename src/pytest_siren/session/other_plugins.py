"""What other plugins may not do with a run: repeat it, or time its report."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_siren.session.items import RunItem


class OtherPlugins:
    """Keeps runs out of the loops and timers that other plugins put around tests.

    The run loop has executed a run before pytest's protocol begins for it, so whatever repeats the
    protocol would draw another sample, and whatever times it would time the report alone.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Any:
        """Take a run through pytest's own protocol, whatever repeats tests (--reruns, flaky)."""
        if not isinstance(item, RunItem):
            return None
        runner: Any = item.config.pluginmanager.get_plugin("runner")
        return runner.pytest_runtest_protocol(item, nextitem)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """Set no timer of pytest-timeout, whose limit the run loop keeps: see ``run_timeout``."""
        return True if isinstance(item, RunItem) else None
