"""What a process writes into its reports, and what the controller makes of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest

_REPORT, _WARNING, _ENDED = "report", "warning", "ended"
ENDED: Mapping[str, Any] = {_ENDED: True}
"""The last line of a process that comes to its end."""


def report_line(config: pytest.Config, report: pytest.TestReport) -> dict[str, Any]:
    """Return the line for a report of pytest."""
    return {_REPORT: config.hook.pytest_report_to_serializable(config=config, report=report)}


def report_of(config: pytest.Config, line: Mapping[str, Any]) -> pytest.TestReport | None:
    """Return the report in ``line``; ``None`` if there is none."""
    if _REPORT not in line:
        return None
    report: Any = config.hook.pytest_report_from_serializable(config=config, data=line[_REPORT])
    # Pairs, which JSON knows only as lists.
    report.user_properties = [tuple(one) for one in report.user_properties]
    report.sections = [tuple(one) for one in report.sections]
    report.location = tuple(report.location)
    found: pytest.TestReport = report
    return found


def warning_line(warning: warnings.WarningMessage, nodeid: str) -> dict[str, Any]:
    """Return the line for a warning that was recorded while ``nodeid`` ran."""
    category = warning.category
    return {
        _WARNING: {
            "text": str(warning.message),
            "category": [category.__module__, category.__qualname__],
            "file": warning.filename,
            "line": warning.lineno,
            "nodeid": nodeid,
        }
    }


def warning_of(line: Mapping[str, Any]) -> tuple[warnings.WarningMessage, str] | None:
    """Return the warning in ``line``, and the node id; ``None`` if there is none."""
    if (said := line.get(_WARNING)) is None:
        return None
    category = _category(*said["category"])
    message = category.__new__(category)
    message.args = (said["text"],)
    found = warnings.WarningMessage(message, category, said["file"], said["line"])
    return found, said["nodeid"]


def has_ended(line: Mapping[str, Any]) -> bool:
    """Whether the process writes no further line."""
    return _ENDED in line


def _category(module: str, name: str) -> type[Warning]:
    """Return the class of a warning, or a general one where it is not to be had here."""
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return UserWarning
    usable = isinstance(found, type) and issubclass(found, Warning)
    return found if usable and found.__str__ is Warning.__str__ else UserWarning
