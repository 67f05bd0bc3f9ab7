"""The options of reports. Standard library only until a report is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_siren.reports.formats import Target
    from pytest_siren.session.optionnames import OptionNames


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
