"""Ctrl-C, and SIGTERM, while runs are in flight."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pytest_siren.evaluation.isolation import UserInterrupt

INTERRUPTED = "interrupted"
"""Why a session stops after Ctrl-C."""

_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupts:
    """Turns the first Ctrl-C or SIGTERM into a call; the second is a ``UserInterrupt`` at once.

    A ``KeyboardInterrupt`` in the middle of an event loop's step would tear some run's coroutine
    apart. Use as a context manager, in the main thread. Signals that somebody else handles are left
    to them; only a ``KeyboardInterrupt`` that their handler of Ctrl-C raises is a ``UserInterrupt``
    then, as those of runs are errors of these.
    """

    def __init__(self, first: Callable[[], None]) -> None:
        self._first = first
        self._before: dict[signal.Signals, Any] = {}
        self.count = 0

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in _USUAL.items():
                if signal.getsignal(number) == usual:
                    self._before[number] = signal.signal(number, self._received)
            if signal.SIGINT not in self._before:
                _mark(self._before)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise UserInterrupt
        self._first()


@contextmanager
def marked_interrupts() -> Iterator[None]:
    """Let Ctrl-C raise ``UserInterrupt``, where code of others may raise ``KeyboardInterrupt``."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        _mark(before)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mark(before: dict[signal.Signals, Any]) -> None:
    """Replace the handler of Ctrl-C by one that marks its ``KeyboardInterrupt``; note the old."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        return

    def marked(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt as interrupt:
            raise UserInterrupt(*interrupt.args) from interrupt

    before[signal.SIGINT] = signal.signal(signal.SIGINT, marked)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM as Python handles Ctrl-C, unless somebody handles it already."""
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
