"""Lines for the user while elements execute runs."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_siren.text.words import escaped


def say(config: pytest.Config, text: str) -> None:
    """Show ``text``, one line or more, between what pytest shows of the runs."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    progress: Any = config.pluginmanager.get_plugin("siren-progress")
    if reporter is None:
        return
    with progress.held():
        reporter.ensure_newline()
        for line in text.splitlines():
            reporter.write_line(escaped(line))
        # What follows begins with the name of the file again.
        reporter.currentfspath = None
