"""One live line on the bottom row of a terminal, below all other output.

The scrolling region (DECSTBM) excludes the row, so that other writers use the rows above it
without knowing of it. One write draws the line and leaves the cursor where it was.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping

_LOOK = 0.1
"""Seconds between two checks of the terminal's size."""
_DRAW = 0.25
"""Seconds between two drawings."""
_ASLEEP = 2.0
"""Seconds without a check after which the process was probably stopped and continued."""
_ROWS, _COLUMNS = 5, 20
"""The smallest terminal that can spare a row."""
_INCAPABLE = frozenset({"", "dumb", "unknown", "emacs", "cons25", "vt52"})

_SAVE, _RESTORE = "\x1b7", "\x1b8"
_PLAIN, _WHOLE_SCREEN = "\x1b[m", "\x1b[r"
_MAKE_ROW_BELOW = "\x1bD\x1b[A"
"""Scrolls by one if the cursor is in the bottom row; keeps its column, unlike a newline."""
_ERASE_BELOW = f"{_SAVE}{_PLAIN}\x1b[B\r\x1b[J{_RESTORE}"
"""Only valid if there is a row below."""


def capable(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether a live line can be shown on ``fd``."""
    if os.name != "posix" or environ.get("TERM", "") in _INCAPABLE or not os.isatty(fd):
        return False
    if not _in_foreground(fd):
        return False
    size = os.get_terminal_size(fd)
    return size.lines >= _ROWS and size.columns >= _COLUMNS


def _bottom(size: os.terminal_size) -> str:
    """Return what moves to the bottom row and erases it."""
    return f"\x1b[{size.lines};1H{_PLAIN}\x1b[2K"


def _in_foreground(fd: int) -> bool:
    """Whether the terminal is this process's to use; not so after ``&``, or Ctrl-Z and ``bg``."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        # It controls no job of this session, so there is no background to be in.
        return True


class LiveLine:
    """Keeps the bottom row of the terminal ``fd`` and shows what ``text(width)`` returns there.

    ``fd`` is borrowed; it must lead to the terminal until ``end``. A thread draws, so that the line
    lives while tests, tools or a queue have the main thread.
    """

    def __init__(self, fd: int, text: Callable[[int], str]) -> None:
        self._fd = fd
        self._text = text
        self._pid = os.getpid()
        self._size: os.terminal_size | None = None
        """Of the terminal when the row was taken; ``None`` while we have none."""
        self._terminal = threading.Lock()
        self._over = threading.Event()
        self._paused = False
        self._thread = threading.Thread(target=self._keep_drawing, name="siren-live", daemon=True)

    def start(self) -> None:
        """Take the row and begin to draw."""
        atexit.register(self.end)
        self._draw()
        self._thread.start()

    def pause(self) -> None:
        """Give the row back until ``resume``."""
        with self._terminal:
            self._paused = True
            self._release()

    def resume(self) -> None:
        """Take the row again after ``pause``."""
        with self._terminal:
            self._paused = False
        self._draw()

    def end(self) -> None:
        """Give the row back for good. May be called again, and in a forked process does nothing."""
        if os.getpid() != self._pid:
            return
        self._over.set()
        if self._thread.is_alive():
            # Only a terminal that takes no output could hold the thread up longer than a moment.
            self._thread.join(timeout=2)
        with self._terminal:
            self._paused = True
            self._release()
        atexit.unregister(self.end)

    def _keep_drawing(self) -> None:
        looked_at = drawn_at = time.monotonic()
        while not self._over.wait(_LOOK):
            now = time.monotonic()
            try:
                slept = now - looked_at > _ASLEEP
                if slept or now - drawn_at >= _DRAW or self._resized():
                    self._draw(anew=slept)
                    drawn_at = now
            except OSError:
                # The terminal is gone; the writers of results will report that.
                return
            looked_at = now

    def _resized(self) -> bool:
        return self._size is not None and os.get_terminal_size(self._fd) != self._size

    def _draw(self, *, anew: bool = False) -> None:
        """Show the line; ``anew`` if another process may have used the terminal meanwhile."""
        with self._terminal:
            if self._paused or not _in_foreground(self._fd):
                return
            size = os.get_terminal_size(self._fd)
            if size.lines < _ROWS or size.columns < _COLUMNS:
                self._release()
                return
            take = ""
            if self._size is None:
                take = _MAKE_ROW_BELOW
            elif anew or size != self._size:
                take = self._clean_up()
            # The last column stays free: some terminals begin a new row as soon as it is filled.
            text = self._text(max(size.columns - 1, _COLUMNS))[: size.columns - 1]
            # Setting the region again each time undoes what a program that resets terminals did.
            region = f"\x1b[1;{size.lines - 1}r"
            self._write(f"{take}{_SAVE}{region}{_bottom(size)}{text}{_RESTORE}")
            self._size = size

    def _release(self) -> None:
        if self._size is None:
            return
        if os.isatty(self._fd):
            if os.get_terminal_size(self._fd) == self._size:
                self._write(f"{_SAVE}{_WHOLE_SCREEN}{_bottom(self._size)}{_RESTORE}")
            else:
                self._write(self._clean_up())
        self._size = None

    def _clean_up(self) -> str:
        """Return what removes the line wherever a change of size has moved it to.

        Terminals differ in that, but it is always below the cursor.
        """
        return f"{_SAVE}{_WHOLE_SCREEN}{_RESTORE}{_MAKE_ROW_BELOW}{_ERASE_BELOW}"

    def _write(self, text: str) -> None:
        data = text.encode("ascii")
        while data:
            data = data[os.write(self._fd, data) :]
