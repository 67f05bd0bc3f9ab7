"""Whether evaluations were what ran last. Loaded by every pytest session."""

from __future__ import annotations

import pytest

CACHE_KEY = "siren/session"
"""Where pytest's cache keeps the last session with evaluations."""


def forget_latest(session: pytest.Session) -> None:
    """Note that a session without evaluations was the last one: ``--lf`` is pytest's own again.

    A session that only collects, or that has found nothing, was none.
    """
    config = session.config
    if config.option.collectonly or session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        return
    cache = getattr(config, "cache", None)
    record = cache.get(CACHE_KEY, None) if cache is not None else None
    if cache is not None and isinstance(record, dict) and record.get("latest"):
        cache.set(CACHE_KEY, {**record, "latest": False})
