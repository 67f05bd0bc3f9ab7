"""The options of reports and results. Standard library only until one of them is given."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_siren.session.config.option_names import OptionNames

if TYPE_CHECKING:
    from pytest_siren.reports.formats import Target
    from pytest_siren.session.config.option_names import OptionNames


def add_report_options(parser: pytest.Parser, group: OptionNames) -> None:
    """Add the options and ini keys of reports."""
    group.addoption(
        "--siren-report",
        action="append",
        default=[],
        metavar="PATH",
        help="write a report at the end: x.md, x.sarif, x.html, or a folder for a page with its "
        "transcripts; may be given several times",
    )
    group.addoption(
        "--siren-no-github",
        action="store_true",
        default=None,
        help="on GitHub Actions: neither append to the job's summary nor annotate broken gates",
    )
    parser.addini("siren_report", "reports to write, relative to the root folder", type="linelist")
    parser.addini(
        "siren_github",
        "on GitHub Actions: append to the job's summary and annotate broken gates (default: true)",
        type="bool",
        default=True,
    )


def targets(config: pytest.Config) -> list[Target]:
    """Return the reports that are asked for. Raises ``pytest.UsageError`` for unknown kinds."""
    asked: list[tuple[str, str, Path]] = [
        *(("siren_report", text, config.rootpath) for text in config.getini("siren_report")),
        *(
            ("--siren-report", text, config.invocation_params.dir)
            for text in config.getoption("siren_report")
        ),
    ]
    if not asked:
        return []
    from pytest_siren.reports.formats import ReportError, Target

    found: dict[Path, Target] = {}
    for where, text, base in asked:
        try:
            target = Target.of(text, base)
        except ReportError as error:
            raise pytest.UsageError(f"{where}: {error}") from None
        found[target.path] = target
    return list(found.values())


def on_github(config: pytest.Config) -> bool:
    """Whether GitHub Actions runs this session, and is to be told of it."""
    wanted = config.getini("siren_github") and not config.getoption("siren_no_github")
    return bool(wanted) and os.environ.get("GITHUB_ACTIONS") == "true"


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
