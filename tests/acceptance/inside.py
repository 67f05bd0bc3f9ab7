"""Sessions in the tests' own process, for pages of sessions that differ in little."""

from __future__ import annotations

# Loaded before pytester notes what is loaded, or each session would load them anew.
import numpy as np
import pandas as pd
import pydantic_ai.models.function
import pytest
import scipy.optimize
import scipy.stats

from tests.acceptance.conftest import Project

LOADED = (np, pd, pydantic_ai, scipy)


class Inside(Project):
    """A project whose sessions are quick, and not quite as real as those of processes."""

    def run(self, *args: str) -> pytest.RunResult:
        """Run a real pytest session in this process."""
        return self.pytester.runpytest_inprocess(*self.args, *args)
