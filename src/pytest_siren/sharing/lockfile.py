"""A lock for processes of several hosts, without the locks of any operating system."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from pytest_siren.sharing.state import host, lives

HELD = 10.0
"""Seconds after which a lock is taken from a process of another host that keeps it."""
_POLL = 0.002


class LockFile:
    """A symbolic link that names its holder, created in one step that fails when there is one.

    The lock that a process died with is taken away: on the same host at once, on another one when
    nobody else has had it for ``HELD`` seconds. Raises ``OSError``.
    """

    def __init__(self, path: Path, owner: str) -> None:
        """Use the lock ``path`` as ``owner``: host, process id and a number, joined by ``-``."""
        self._path = path
        self._owner = owner
        self._acquired = count()
        self._mine = ""

    def acquire(self) -> None:
        """Wait until nobody else holds it, and hold it."""
        self._mine = mine = f"{self._owner}-{next(self._acquired)}"
        holder, since, wait = "", 0.0, 0.0
        while True:
            try:
                os.symlink(mine, self._path)
                return
            except FileExistsError:
                now = self._holder()
            if now == mine:
                # A server that is asked twice since its answer got lost refuses the second time.
                return
            if now != holder:
                holder, since = now, time.monotonic()
            elif now and _is_left(now, time.monotonic() - since):
                self._take_away(now)
            wait = min(wait + _POLL, 10 * _POLL)
            time.sleep(wait)

    def release(self) -> None:
        """Give it back, unless it was taken away from a process that seemed to be dead."""
        if self._holder() == self._mine:
            self._path.unlink(missing_ok=True)

    def _holder(self) -> str:
        """Return who holds it and for the how manieth time; empty when nobody does."""
        try:
            return os.readlink(self._path)
        except FileNotFoundError:
            return ""

    def _take_away(self, holder: str) -> None:
        """Take it from ``holder``, or give it back if it is another's now."""
        broken = self._path.with_name(f"{self._path.name}-{self._owner}")
        with suppress(FileNotFoundError):
            os.rename(self._path, broken)
            if (found := os.readlink(broken)) != holder:
                with suppress(FileExistsError):
                    os.symlink(found, self._path)
            broken.unlink()


def _is_left(holder: str, seconds: float) -> bool:
    """Whether the process that has held the lock for so long died with it."""
    where, _, pid = holder.rsplit("-", 2)[0].rpartition("-")
    if where == host() and pid.isdecimal():
        return not lives(int(pid))
    return seconds > HELD
