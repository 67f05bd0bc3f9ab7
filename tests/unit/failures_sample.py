"""Exceptions that code of a run may raise, most of which are no ``Exception``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest


class OddError(BaseException):
    """Of somebody's library."""


class MuteError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise OddError


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


FAILURES: dict[str, Callable[[], object]] = {
    "RuntimeError": raises(RuntimeError("broken")),
    "SystemExit": lambda: sys.exit("it gave up"),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "GeneratorExit": raises(GeneratorExit()),
    "CancelledError": raises(asyncio.CancelledError()),
    "Error": raises(concurrent.futures._base.Error("of a future")),
    "Skipped": lambda: pytest.skip("no network"),
    "Failed": lambda: pytest.fail("too short"),
    "Exit": lambda: pytest.exit("enough", returncode=0),
    "XFailed": lambda: pytest.xfail("known"),
    "BaseExceptionGroup": raises(BaseExceptionGroup("several", [SystemExit(1), ValueError()])),
    "ExceptionGroup": raises(ExceptionGroup("several", [ValueError("one")])),
    "OddError": raises(OddError("odd")),
    "MuteError": raises(MuteError()),
    "TimeoutError": raises(TimeoutError()),
}
"""By the name of the class that is to be recorded."""
