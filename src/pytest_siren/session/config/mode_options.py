"""``--run-mode`` and ``--plan-only``: what a session does instead of executing runs."""

from __future__ import annotations

from argparse import ArgumentTypeError
from enum import StrEnum
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_siren.session.config.option_names import OptionNames


class RunMode(StrEnum):
    """What a session does with its runs."""

    NORMAL = "normal"
    """Executes them."""
    DRY_RUN = "dry-run"
    """Shows which ones it would execute, and writes nothing."""
    GENERATE_ONLY = "generate-only"
    """Makes the folders of its jobs, for another session to execute."""
    PREPARE = "prepare"
    """Lets its parts download and build what they need."""
    PLAN_ONLY = "plan-only"
    """Shows all runs in the order of execution, and writes nothing: ``--plan-only``."""


_MODES = tuple(mode.value for mode in RunMode if mode is not RunMode.PLAN_ONLY)
_SPELLINGS = {**{mode: mode for mode in _MODES}, "generate": RunMode.GENERATE_ONLY.value}
_WRITING_NOTHING = (RunMode.DRY_RUN, RunMode.PLAN_ONLY)


def add_mode_options(group: OptionNames) -> None:
    """Add the options."""
    group.addoption(
        "--run-mode",
        type=_mode,
        default=None,
        metavar="|".join(_MODES),
        help="execute the runs (default); or show which would be executed, at what estimated cost, "
        "and write nothing; or only make the folders of the jobs; or only download and build what "
        "the runs need",
    )
    group.addoption(
        "--plan-only",
        action="store_true",
        default=False,
        help="show every run in the order of execution, with what would be done with it and why, "
        "and write nothing",
    )


def _mode(text: str) -> str:
    mode = _SPELLINGS.get(text.strip().lower().replace("_", "-"))
    if mode is None:
        raise ArgumentTypeError(f"unknown mode {text!r}; known are {', '.join(_MODES)}")
    return mode


def run_mode(config: pytest.Config) -> RunMode:
    """Return what the session does. Nothing but ``normal`` executes any run."""
    if config.getoption("siren_plan_only", False):
        return RunMode.PLAN_ONLY
    return RunMode(config.getoption("siren_run_mode", None) or RunMode.NORMAL)


def writes_nothing(config: pytest.Config) -> bool:
    """Whether the session must leave every file as it is."""
    return run_mode(config) in _WRITING_NOTHING


def check_mode(config: pytest.Config) -> None:
    """Raise ``pytest.UsageError`` for options that cannot be given together."""
    option = config.getoption
    mode = run_mode(config)
    if mode is RunMode.NORMAL:
        return
    given = "--plan-only" if mode is RunMode.PLAN_ONLY else f"--run-mode {mode}"
    if mode is RunMode.PLAN_ONLY and (asked := option("siren_run_mode")) is not None:
        raise pytest.UsageError(f"--plan-only and --run-mode {asked} cannot be given together")
    for name, there in (
        ("--show-config", option("siren_show_config")),
        ("--collect-only", config.option.collectonly),
    ):
        if there:
            raise pytest.UsageError(f"{given} and {name} cannot be given together")
    if option("dist", "no") == "each":
        raise pytest.UsageError(
            f"{given} cannot be used with --dist each, which makes a job for every worker"
        )
    resumes = "--resume" if option("siren_resume") else "--lf" if option("lf", False) else None
    if mode is RunMode.GENERATE_ONLY and resumes:
        raise pytest.UsageError(
            f"{given} cannot be used with {resumes}: the folders of these jobs are there already"
        )
