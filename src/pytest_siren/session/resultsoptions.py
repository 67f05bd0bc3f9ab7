"""``--results-format`` and its like. Standard library only until one of them is given."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from pytest_siren.session.optionnames import OptionNames


def add_results_options(group: OptionNames) -> None:
    """Add the options."""
    group.addoption(
        "--results-format",
        type=_format,
        default=None,
        metavar="table|json|csv|markdown|latex",
        help="at the end, also show results as siren results does (default with one of the two "
        "below: table, or what the ending of the file says)",
    )
    group.addoption(
        "--results-group-by",
        action="append",
        type=_groups,
        default=[],
        metavar="WHAT[,WHAT]",
        help="a row of these results for each: dataset, suite, agent, model, attack, task, vector, "
        "... (default: all, which is each configuration)",
    )
    group.addoption(
        "--results-output",
        default=None,
        metavar="FILE",
        help="write these results to FILE instead of showing them",
    )


def _format(text: str) -> str:
    from pytest_siren.reports.grouping import FORMATS

    if text.lower() not in FORMATS:
        raise ArgumentTypeError(f"unknown format {text!r}; known are {', '.join(FORMATS)}")
    return text.lower()


def _groups(text: str) -> list[str]:
    from pytest_siren.reports.grouping import group_names

    return group_names(text)


def results_asked(config: pytest.Config) -> bool:
    """Whether one of the options is given."""
    names = ("siren_results_format", "siren_results_group_by", "siren_results_output")
    return any(config.getoption(name) for name in names)
