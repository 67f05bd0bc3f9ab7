"""A terminal in Python, on a real pseudo-terminal."""

from __future__ import annotations

import os
import select
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pyte


class Terminal:
    """A pseudo-terminal whose output is shown on a screen in memory."""

    def __init__(self, rows: int, columns: int) -> None:
        self._master, self.fd = os.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        self.take()
        self.screen.resize(rows, columns)
        termios.tcsetwinsize(self.fd, (rows, columns))

    def write(self, text: str) -> None:
        """Write as some program on the terminal would; newlines become CR LF on the way."""
        for start in range(0, len(text), 1000):
            os.write(self.fd, text[start : start + 1000].encode())
            self.take(0)

    def take(self, patience: float = 0.02) -> None:
        """Show what has been written."""
        while self._master >= 0 and select.select([self._master], [], [], patience)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            self._stream.feed(data)

    @property
    def rows(self) -> list[str]:
        """The rows of the screen, without trailing blanks."""
        self.take()
        return [row.rstrip() for row in self.screen.display]

    @property
    def everything(self) -> list[str]:
        """What has scrolled away, then the rows of the screen."""
        width = self.screen.columns
        self.take()
        gone = [
            "".join(line[column].data for column in range(width)).rstrip()
            for line in self.screen.history.top
        ]
        return gone + self.rows

    @property
    def cursor(self) -> tuple[int, int]:
        self.take()
        return self.screen.cursor.y, self.screen.cursor.x

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        for fd in (self._master, self.fd):
            if fd >= 0:
                os.close(fd)


@contextmanager
def terminal(rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    made = Terminal(rows, columns)
    try:
        yield made
    finally:
        made.close()
