"""What runs in flight print, log and warn of, kept apart run by run."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from functools import wraps
from io import StringIO
from typing import Any, TextIO
from warnings import WarningMessage
from weakref import WeakSet

import pytest

from pytest_siren.session.config.invocation import redactor
from pytest_siren.session.items.job import RunItem
from pytest_siren.session.items.report import screened

_LOG_FORMAT = "%(levelname)-8s %(name)s:%(filename)s:%(lineno)d %(message)s"
_PYTEST_HANDLERS = ("log_file_handler", "log_cli_handler")
"""Of pytest's logging plugin: those that write while a run is in flight."""
_MOST_TEXT = 1_000_000
"""Characters kept of each stream of one run."""


_MOST_WARNINGS = 200
"""Different warnings kept of one run."""


class OutputText:
    """Text that any thread may add to, and whose beginning is kept."""

    def __init__(self) -> None:
        self._kept = StringIO()
        self._length = 0
        # A finalizer may write in the midst of a write.
        self._lock = threading.RLock()

    def append(self, text: str) -> None:
        """Add ``text``, or count it once there is too much."""
        with self._lock:
            room = _MOST_TEXT - self._length
            self._length += len(text)
            if room > 0:
                self._kept.write(text[:room])

    def __str__(self) -> str:
        text = self._kept.getvalue()
        if self._length > _MOST_TEXT:
            return f"{text}\n({self._length - _MOST_TEXT:,} more characters)\n"
        return text


@dataclass
class RunOutput:
    """What one run put out."""

    stdout: OutputText = field(default_factory=OutputText)
    stderr: OutputText = field(default_factory=OutputText)
    log: OutputText = field(default_factory=OutputText)
    trace: str = ""
    """The spans of the run, where they are to be shown."""
    warnings: dict[tuple[Any, ...], WarningMessage] = field(default_factory=dict)
    log_file: Callable[[logging.LogRecord], None] | None = None
    """Writes what the run logs into the log of its job, if that has one."""

    def warn(self, found: WarningMessage) -> None:
        """Keep a warning, once; those beyond a bound are lines of the log."""
        key = (found.category, str(found.message), found.filename, found.lineno)
        if key in self.warnings or len(self.warnings) < _MOST_WARNINGS:
            self.warnings[key] = found
        else:
            self.log.append(f"{found.category.__name__}: {found.message}\n")

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of what is not empty, as pytest's reports name them."""
        for name in ("stdout", "stderr", "log", "trace"):
            if text := str(getattr(self, name)):
                yield name, text


OUTPUT: ContextVar[RunOutput | None] = ContextVar("siren_run_output", default=None)
"""The output of the run that the code belongs to; its threads inherit it from ``to_thread``."""


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output = OUTPUT.get()
        if output is not None:
            output.log.append(self.format(record) + "\n")


class _ScreenedFormatter(logging.Formatter):
    """Formats as ``formatter`` does, without secrets and without what a terminal obeys."""

    def __init__(self, formatter: logging.Formatter, config: pytest.Config) -> None:
        super().__init__()
        self._formatter = formatter
        self._config = config

    def format(self, record: logging.LogRecord) -> str:
        secrets = redactor(self._config)
        # Not of the formatted text: pytest colours it.
        shown = copy(record)
        shown.msg, shown.args = screened(record.getMessage(), secrets), None
        if record.exc_info:
            trace = self._formatter.formatException(record.exc_info)
            shown.exc_text = screened(trace, secrets)
        if record.stack_info:
            shown.stack_info = screened(record.stack_info, secrets)
        return self._formatter.format(shown)


class Capture:
    """Keeps logs and warnings of runs apart, and leaves those of all else as they are."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._logs = config.pluginmanager.get_plugin("logging-plugin")
        self._handler = _LogHandler()
        self._handler.setFormatter(logging.Formatter(_LOG_FORMAT))

    @contextmanager
    def session(self) -> Iterator[None]:
        """Catch the logs of runs."""
        root = logging.getLogger()
        if self._logs is not None:
            root.addHandler(self._handler)
        with self._screened_logs():
            try:
                yield
            finally:
                root.removeHandler(self._handler)

    @contextmanager
    def _screened_logs(self) -> Iterator[None]:
        """Screen what pytest writes into its log file and shows live."""
        found = (getattr(self._logs, name, None) for name in _PYTEST_HANDLERS)
        before = [(handler, handler.formatter) for handler in found if handler is not None]
        for handler, formatter in before:
            if formatter is not None:
                handler.setFormatter(_ScreenedFormatter(formatter, self._config))
        try:
            yield
        finally:
            for handler, formatter in before:
                handler.setFormatter(formatter)

    def step(self, step: Callable[..., object], *args: Any) -> None:
        """Call ``step`` while all warnings of runs are caught.

        No longer: tests between two steps have the filters that they would have without runs.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            self._divert_warnings()
            step(*args)

    # Runs go on in their threads while pytest reports another one. pytest gathers all warnings
    # then, and would take theirs for those of the one that is reported.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave to each run its warnings."""
        if isinstance(item, RunItem):
            self._divert_warnings()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Leave to each run its warnings."""
        if isinstance(item, RunItem):
            self._divert_warnings()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Leave to each run its warnings."""
        if isinstance(item, RunItem):
            self._divert_warnings()

    def _divert_warnings(self) -> None:
        """Give warnings to the runs they are of, until Python's own way is restored."""
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
                output.warn(WarningMessage(message, category, filename, lineno))

        warnings.showwarning = show


_NAMES = ("stdout", "stderr")


class RunStreams:
    """Diverts what runs write to the standard streams, while they may write anything.

    The streams themselves are taught to, each for as long as it is in use, instead of being
    replaced: a thread that prints holds on to the stream that it found, and some versions of Python
    crash if that one is gone by then. So it does not matter either that pytest puts other streams
    in their place for every test.

    What is written below Python (a library in C, a process that inherits the terminal) is not
    caught, for it cannot be told whose it is.
    """

    def __init__(self, config: pytest.Config) -> None:
        method = config.getoption("capture", "no")
        self._wanted = method != "no"
        self._tee = method == "tee-sys"
        self._diverted: list[_Diverted] = []
        self._threads: WeakSet[threading.Thread] = WeakSet()
        """Those that code of runs started."""

    @contextmanager
    def diverted(self, hung: Callable[[], int]) -> Iterator[None]:
        """Divert the streams; for good if something of a run, of which ``hung`` tells, goes on."""
        self.divert()
        start = threading.Thread.start
        threading.Thread.start = self._inheriting(start)  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]
            if not hung() and not any(thread.is_alive() for thread in self._threads):
                for one in self._diverted:
                    one.undo()
                self._diverted.clear()

    def divert(self) -> None:
        """Divert the present streams, unless they are already."""
        if not self._wanted:
            return
        for name in _NAMES:
            for stream in (getattr(sys, name), getattr(sys, f"__{name}__")):
                if stream is None:
                    continue
                # Text that is let through reaches the stream of bytes below by itself.
                below = None if self._tee else getattr(stream, "buffer", None)
                for part in (stream, below):
                    if part is not None and not _is_diverted(part):
                        self._diverted.append(_Diverted(part, name, self._tee, self._diverted))

    # pytest has its own streams while a test is being set up, called and torn down, and fixtures
    # such as capsys have theirs.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Divert pytest's streams."""
        self.divert()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self) -> Generator[None, object, object]:
        """Divert those of fixtures."""
        value = yield
        self.divert()
        return value

    def _inheriting(
        self, start: Callable[[threading.Thread], None]
    ) -> Callable[[threading.Thread], None]:
        """Return ``start`` for threads that belong to the run whose code starts them."""

        @wraps(start)
        def started(thread: threading.Thread) -> None:
            if (output := OUTPUT.get()) is not None:
                self._threads.add(thread)
                run = thread.run

                def run_in_context() -> None:
                    del thread.run
                    OUTPUT.set(output)
                    run()

                thread.run = run_in_context  # type: ignore[method-assign]
            start(thread)

        return started


class _Diverted:
    """A stream of texts or bytes whose ``write`` gives to runs what is theirs."""

    def __init__(self, stream: Any, name: str, tee: bool, kept: list[_Diverted]) -> None:
        self._stream = stream
        self._name = name
        self._tee = tee
        self._kept = kept
        """As long as one stream is diverted, none is gone: a thread may be about to use it."""
        self._write_on = stream.write
        self._flush_on = stream.flush
        self._close_on = stream.close
        # Bound once: ``undo`` takes back nothing but these.
        self._own = {"write": self.write, "flush": self.flush, "close": self.close}
        with suppress(AttributeError):  # a stream that cannot be taught stays as it is
            for method, function in self._own.items():
                setattr(stream, method, function)

    def write(self, text: Any) -> Any:
        output = OUTPUT.get()
        if output is None or not isinstance(text, str | bytes | bytearray | memoryview):
            return self._write_on(text)
        shown = text if isinstance(text, str) else bytes(text).decode(errors="replace")
        getattr(output, self._name).append(shown)
        return self._write_on(text) if self._tee else len(text)

    def flush(self) -> Any:
        # What waits to be written is not the run's, and must not be taken for it.
        if OUTPUT.get() is None or self._tee:
            return self._flush_on()
        return None

    def close(self) -> Any:
        # It is everybody's; and a wrapper around the bytes closes them when it is collected, which
        # may be at any time.
        if OUTPUT.get() is not None or not isinstance(self._stream, io.TextIOBase):
            return None
        # Its owner closes it, and with it the bytes below.
        below = getattr(self._stream, "buffer", None)
        for other in self._kept:
            if other._stream is below:
                other.undo()
        return self._close_on()

    def undo(self) -> None:
        held = vars(self._stream) if hasattr(self._stream, "__dict__") else {}
        for method, function in self._own.items():
            if held.get(method) is function:
                delattr(self._stream, method)


def _is_diverted(stream: Any) -> bool:
    return isinstance(getattr(stream.write, "__self__", None), _Diverted)
