"""What pytest shows of runs: without secrets, and with nothing in it that a terminal obeys."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_siren.jobs.secrets.patterns import of_override
from pytest_siren.session.config.stash import SECRETS

if TYPE_CHECKING:
    from pytest_siren.evaluation.run import RunOutcome
    from pytest_siren.jobs.secrets.redact import Redactor

_UNSEEN = (
    *((0x00, 0x08), (0x0B, 0x1F), (0x7F, 0x9F), (0x61C, 0x61C), (0x200B, 0x200F), (0x2028, 0x202E)),
    *((0x2060, 0x206F), (0xD800, 0xDFFF), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0xE0000, 0xE007F)),
)
"""What moves the cursor, colours, hides or reorders text; line breaks and tabs are left."""
_SPELLED = {
    code: chr(code).encode("unicode_escape").decode()
    for first, last in _UNSEEN
    for code in range(first, last + 1)
}
_COMMAND = re.compile(r"^([ \t]*)(::|##vso\[|##\[)", re.MULTILINE)
"""What CI systems obey at the start of a line."""
_DEEPEST = 12


def learn(config: pytest.Config, values: Iterable[str]) -> None:
    """Let the session's output and records lack ``values``."""
    config.stash.setdefault(SECRETS, set()).update(values)


def redactor(config: pytest.Config) -> Redactor:
    """Return what knows the secrets of the session: options, eval files, environment."""
    # Not before there is something to say: controllers of workers load nothing heavy.
    from pytest_siren.jobs.secrets.redact import Redactor

    overrides = config.getoption("siren_set", None) or ()
    given = {value for one in overrides for value in of_override(one)}
    known: set[str] = config.stash.setdefault(SECRETS, set())
    return Redactor(frozenset(given | known))


def visible(text: str) -> str:
    r"""Return ``text`` with control and invisible characters spelled out, as in ``\x1b``.

    Line breaks and tabs stay. A line that a CI system would take for a command gets a backslash.
    """
    return _COMMAND.sub(r"\1\\\2", text.translate(_SPELLED))


def screened(text: str, secrets: Redactor) -> str:
    """Return ``text`` as it may be shown."""
    return visible(secrets.text(text))


def without_secrets(outcome: RunOutcome, secrets: Redactor) -> RunOutcome:
    """Return ``outcome`` with its errors redacted, before anything shows or records them.

    What was said is evidence: the recorder takes known secrets out of it, and nothing else.
    """
    error = outcome.error
    if error is not None:
        message, trace = secrets.text(error.message), secrets.text(error.traceback)
        outcome = replace(outcome, error=replace(error, message=message, traceback=trace))
    if outcome.retries:
        retries = tuple(replace(one, reason=secrets.text(one.reason)) for one in outcome.retries)
        outcome = replace(outcome, retries=retries)
    return outcome


def screen_report(report: Any, secrets: Redactor) -> None:
    """Screen what a pytest report shows: its failure and the sections of captured output."""
    report.sections = [(name, screened(text, secrets)) for name, text in report.sections]
    report.longrepr = _screened(report.longrepr, secrets, _DEEPEST)


def warn_again(found: Iterable[warnings.WarningMessage], secrets: Redactor) -> None:
    """Issue warnings where pytest expects them, so that its filters decide."""
    for one in found:
        before = str(one.message)
        text = screened(before, secrets)
        message = one.message if text == before else _like(one.category, text)
        issue = partial(
            warnings.warn_explicit,
            message,
            one.category,
            one.filename,
            one.lineno,
            source=one.source,
        )
        try:
            issue()
        except UserWarning:
            if not getattr(one.category, "loses_no_run", False):
                raise
            # With -W error a run would fail for what its provider reports beside a good answer.
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                issue()


def screen_warning(found: warnings.WarningMessage) -> None:
    """Let a warning that pytest has gathered show nothing that a terminal obeys.

    It may be of a run's thread, which warned while pytest gathered the warnings of something else.
    """
    before = str(found.message)
    text = visible(before)
    if text != before:
        found.message = _like(found.category, text)


def _like(category: type[Warning], text: str) -> Warning:
    """Return a warning of ``category`` that says ``text``, whatever its constructor takes."""
    if category.__str__ is not BaseException.__str__:
        category = type(category.__name__, (category,), {"__str__": lambda self: text})
    warning = category.__new__(category)
    warning.args = (text,)
    return warning


def _screened(value: Any, secrets: Redactor, deepest: int) -> Any:
    """Return the texts of what pytest shows of a failure screened, changed in place."""
    if isinstance(value, str):
        return screened(value, secrets)
    if not deepest or value is None:
        return value
    if isinstance(value, list):
        value[:] = [_screened(one, secrets, deepest - 1) for one in value]
    elif isinstance(value, tuple):
        return tuple(_screened(one, secrets, deepest - 1) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            before = getattr(value, each.name, None)
            after = _screened(before, secrets, deepest - 1)
            if after is not before and after != before:
                setattr(value, each.name, after)
    return value
