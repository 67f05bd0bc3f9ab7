"""Progress as lines of their own in pytest's output, for logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest


class PlainLines:
    """Writes ``text()`` through pytest's terminal reporter every ``period`` seconds.

    pytest's reporter is not made for threads, and while a test runs its stream may lead into the
    test's captured output. So without xdist lines are written by ``tick`` in the main thread only.
    An xdist controller executes no tests, but its main thread waits in a queue for as long as
    workers are silent: there a thread writes, and never while a hook is reporting.
    """

    def __init__(self, config: pytest.Config, text: Callable[[], str], period: float) -> None:
        self._config = config
        self._text = text
        self._period = period
        self._due = time.monotonic() + period
        self._reporting = threading.RLock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if config.pluginmanager.has_plugin("dsession"):
            self._thread = threading.Thread(target=self._keep_writing, name="siren-progress")
            self._thread.daemon = True

    def start(self) -> None:
        """Begin; the first line comes after one period."""
        self._config.pluginmanager.register(self, "siren-progress-lines")
        if self._thread is not None:
            self._thread.start()

    def tick(self) -> None:
        """Write a line if it is time to."""
        if self._thread is None and time.monotonic() >= self._due:
            self._write()

    def end(self) -> None:
        """Write nothing more. May be called again."""
        self._over.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2)
        if self._config.pluginmanager.is_registered(self):
            self._config.pluginmanager.unregister(self)

    def _keep_writing(self) -> None:
        while not self._over.wait(max(self._due - time.monotonic(), 0.0)):
            with self._reporting:
                if not self._over.is_set():
                    self._write()

    def _write(self) -> None:
        self._due = time.monotonic() + self._period
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        text = self._text()
        with uncaptured(self._config):
            writer = self._config.get_terminal_writer()
            if writer.width_of_current_line:
                writer.line()
            writer.line(text)
            writer.flush()
        if reporter.showlongtestinfo:
            # The line that pytest had begun is over; letters go on without their file's name.
            reporter.currentfspath = None

    # The hooks in which an xdist controller writes.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodeready(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self) -> Generator[None, Any, Any]:
        with self._reporting:
            return (yield)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Let what is written reach the terminal, even while pytest captures output."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    return nullcontext() if capture is None else capture.global_and_fixture_disabled()
