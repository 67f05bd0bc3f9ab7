"""What pytest shows of runs is screened, whatever it is."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from pytest_siren.jobs.redact import Redactor
from pytest_siren.session.items.report import screen_report, screened, warn_again

SECRETS = Redactor(frozenset({"hunter2-and-more"}))


class OddWarning(UserWarning):
    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@pytest.mark.parametrize("style", ["long", "short", "native", "line"])
def test_tracebacks_of_pytest_lose_their_secrets(style: Any) -> None:
    try:
        try:
            password = "hunter2-and-more"
            raise ValueError(f"not {password}")
        except ValueError as error:
            raise RuntimeError("\x1b[2Jowned hunter2-and-more") from error
    except RuntimeError:
        info = pytest.ExceptionInfo.from_current()
    # As pytest makes it, with the values of variables.
    shown = info.getrepr(style=style, showlocals=True, funcargs=True)
    report = pytest.TestReport("x", ("x", 1, "x"), {}, "failed", shown, "call")
    report.sections = [("stdout", "hunter2-and-more\x07")]
    screen_report(report, SECRETS)
    written = report.longreprtext
    assert 'raise RuntimeError("\\x1b[2Jowned hunter2' not in written
    assert "hunter2-and-more" not in written
    assert "\x1b[2J" not in written
    assert "RuntimeError" in written
    assert report.sections == [("stdout", "<redacted>\\x07")]
    if style == "long":
        crash = report.longrepr.reprcrash  # type: ignore[union-attr]
        assert crash.message == "RuntimeError: \\x1b[2Jowned <redacted>"


def test_reasons_of_skips_are_screened() -> None:
    reason = ("x.py", 3, "Skipped: hunter2-and-more")
    report = pytest.TestReport("x", ("x", 1, "x"), {}, "skipped", reason, "call")
    screen_report(report, SECRETS)
    assert report.longrepr == ("x.py", 3, "Skipped: <redacted>")


@pytest.mark.parametrize(
    "warning", [UserWarning("said hunter2-and-more"), OddWarning(3, "said hunter2-and-more")]
)
def test_warnings_keep_their_category(warning: Warning) -> None:
    found = warnings.WarningMessage(warning, type(warning), "x.py", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_again([found], SECRETS)
    (one,) = caught
    assert isinstance(one.message, type(warning))
    assert str(one.message) == str(warning).replace("hunter2-and-more", "<redacted>")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b]52;c;x\x07", "\\x1b]52;c;x\\x07"),
        ("\u202eevil\u200b", "\\u202eevil\\u200b"),
        ("x\r::error ::y", "x\\r::error ::y"),
        (
            "\n  ::error ::y\n##vso[x]\n##[error]\n## Title",
            "\n  \\::error ::y\n\\##vso[x]\n\\##[error]\n## Title",
        ),
        ("\ud800", "\\ud800"),
        ("naïve 🦊", "naïve 🦊"),
    ],
)
def test_nothing_is_obeyed_by_a_terminal_or_a_ci_system(text: str, shown: str) -> None:
    assert screened(text, Redactor()) == shown
