"""Standard streams that give what a run writes to that run, whatever thread writes it."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any
from weakref import WeakSet

import pytest

from pytest_siren.session.capture import OUTPUT

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
