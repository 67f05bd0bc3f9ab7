"""Sessions in the tests' own process, for pages of sessions that differ in little."""

from __future__ import annotations

import warnings
from importlib import import_module
from pkgutil import walk_packages

# Loaded before pytester notes what is loaded, or each session would load them anew.
import numpy as np
import pandas as pd
import pydantic_ai.models.function
import pytest
import scipy.optimize
import scipy.stats

import pytest_siren
from tests.acceptance.project import Project

_SESSIONS = (
    "agents",
    "attacks",
    "datasets",
    "distribute",
    "evaluation",
    "evaluators",
    "jobs",
    "metrics",
    "models",
    "reports",
    "session",
    "spec",
    "yamlpos",
)
LOADED = (
    np,
    pd,
    pydantic_ai,
    scipy,
    *(
        import_module(found.name)
        for part in _SESSIONS
        for found in walk_packages(
            [f"{pytest_siren.__path__[0]}/{part}"], f"{pytest_siren.__name__}.{part}."
        )
    ),
)


class Inside(Project):
    """A project whose sessions are quick, and not quite as real as those of processes."""

    def run(self, *args: str) -> pytest.RunResult:
        """Run a real pytest session in this process; xdist's workers are processes all the same."""
        with warnings.catch_warnings():
            # A user's session does not make errors of all warnings, as the tests' own does.
            warnings.resetwarnings()
            return self.pytester.runpytest_inprocess(*self.args, *args)
