"""A pytest plugin that makes one element of a cluster's session slow.

Its model is where ``BENCHMARK_SLOW_URL`` says; the others keep theirs.
"""

from __future__ import annotations

import os

import pytest

SLOW = "e0.0"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the first element a server of its own."""
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    if worker.partition("-")[0] == SLOW:
        os.environ["OPENAI_BASE_URL"] = os.environ["BENCHMARK_SLOW_URL"]
