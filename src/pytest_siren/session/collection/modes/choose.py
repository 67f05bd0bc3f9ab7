"""Registers what a mode does; all other parts see a session that only collects."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_siren.session.config.options import RunMode, check_mode, run_mode


class UnwrittenCache:
    """Reads ``cache``, and leaves it as it is: pytest notes down even what it only collects."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def set(self, key: str, value: object) -> None:
        """Write nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def use_mode(config: pytest.Config) -> None:
    """Let ``config``'s session do what its mode says, and execute nothing.

    xdist starts no workers for a session that only collects. Raises ``pytest.UsageError`` for
    options that do not go with the mode.
    """
    check_mode(config)
    mode = run_mode(config)
    config.option.collectonly = True
    if mode is not RunMode.GENERATE_ONLY and getattr(config, "cache", None) is not None:
        config.cache = UnwrittenCache(config.cache)  # type: ignore[assignment]
    config.pluginmanager.register(_plugin(mode, config), "siren-mode")


def _plugin(mode: RunMode, config: pytest.Config) -> Any:
    if mode is RunMode.GENERATE_ONLY:
        from pytest_siren.session.collection.modes.generate import GenerateOnly

        return GenerateOnly(config)
    if mode is RunMode.PREPARE:
        from pytest_siren.session.collection.modes.prepare import Prepare

        return Prepare(config)
    if mode is RunMode.PLAN_ONLY:
        from pytest_siren.session.collection.modes.plan_only import PlanOnly

        return PlanOnly(config)
    from pytest_siren.session.collection.modes.dry_run import DryRun

    return DryRun(config)
