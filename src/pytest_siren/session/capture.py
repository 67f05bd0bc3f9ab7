"""What runs in flight print, log and warn of, kept apart run by run."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TextIO

import pytest

_LOG_FORMAT = "%(levelname)-8s %(name)s:%(filename)s:%(lineno)d %(message)s"
_MOST_TEXT = 1_000_000
"""Characters kept of each stream of one run."""


@dataclass
class RunOutput:
    """What one run put out."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    warnings: dict[tuple[Any, ...], warnings.WarningMessage] = field(default_factory=dict)

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of what is not empty, as pytest's reports name them."""
        for name in ("stdout", "stderr", "log"):
            text = "".join(getattr(self, name))
            if len(text) > _MOST_TEXT:
                text = f"{text[:_MOST_TEXT]}\n({len(text) - _MOST_TEXT:,} more characters)\n"
            if text:
                yield name, text


OUTPUT: ContextVar[RunOutput | None] = ContextVar("siren_run_output", default=None)
"""The output of the run that the code belongs to; its threads inherit it from ``to_thread``."""


class _Stream:
    """Stands for a standard stream: text of a run goes to that run, other text on."""

    def __init__(self, stream: TextIO, name: str, tee: bool) -> None:
        self._stream = stream
        self._name = name
        self._tee = tee

    def write(self, text: str) -> int:
        output = OUTPUT.get()
        if output is not None:
            getattr(output, self._name).append(text)
            if not self._tee:
                return len(text)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output = OUTPUT.get()
        if output is not None:
            output.log.append(self.format(record) + "\n")


class Capture:
    """Keeps the output of runs apart while the event loop has the thread.

    Output below Python (a library in C, a process that inherits the terminal) is not caught, for it
    cannot be told whose it is.
    """

    def __init__(self, config: pytest.Config) -> None:
        method = config.getoption("capture", "no")
        self._streams = method != "no"
        self._tee = method == "tee-sys"
        self._logs = config.pluginmanager.has_plugin("logging-plugin")
        self._handler = _LogHandler()
        self._handler.setFormatter(logging.Formatter(_LOG_FORMAT))

    @contextmanager
    def session(self) -> Iterator[None]:
        """Catch logs and warnings of runs."""
        root = logging.getLogger()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            onward = warnings.showwarning

            def show(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                output = OUTPUT.get()
                if output is None:
                    onward(message, category, filename, lineno, file, line)
                else:
                    found = warnings.WarningMessage(message, category, filename, lineno)
                    output.warnings[category, str(message), filename, lineno] = found

            warnings.showwarning = show
            if self._logs:
                root.addHandler(self._handler)
            try:
                yield
            finally:
                root.removeHandler(self._handler)

    def step(self, step: Any, *args: Any) -> None:
        """Call ``step`` while the standard streams lead to the runs that write to them."""
        if not self._streams:
            step(*args)
            return
        before = sys.stdout, sys.stderr
        stand_ins: Any = (
            _Stream(before[0], "stdout", self._tee),
            _Stream(before[1], "stderr", self._tee),
        )
        sys.stdout, sys.stderr = stand_ins
        try:
            step(*args)
        finally:
            sys.stdout, sys.stderr = before
