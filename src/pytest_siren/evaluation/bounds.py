"""How many runs there may be. Standard library only."""

from __future__ import annotations

MOST_RUNS_OF_TASK = 10_000
"""Runs of one task, and so the largest k of pass@k."""
MOST_RUNS_OF_JOB = 1_000_000
"""Every run is a pytest item of about 2 KB, made before the first one is executed."""
