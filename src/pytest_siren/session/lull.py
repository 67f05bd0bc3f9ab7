"""The moments at which an event loop has nothing to do but wait."""

from __future__ import annotations

import selectors
from collections.abc import Callable

_PAUSE = 0.002
"""Seconds for which another thread is left the interpreter."""


class Lull(selectors.DefaultSelector):
    """A selector that tells when its event loop is about to wait.

    What takes long and is not urgent is done then: no answer that is there waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Callable[[], bool | None], None] = {}

    def ask(self, call: Callable[[], bool | None]) -> None:
        """Call ``call`` once, the next time that the loop is about to wait.

        Several are called one at a time, in the order in which they were asked for. One that has
        given another thread something to do returns ``True``, and that thread gets some time.
        """
        self._calls[call] = None

    def forget(self, call: Callable[[], bool | None]) -> None:
        """Do not call ``call`` after all; does nothing when nobody asked for it."""
        self._calls.pop(call, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, as any selector does; nothing when it has made a call instead."""
        if not self._calls or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        call = next(iter(self._calls))
        del self._calls[call]
        if not call():
            return []
        return super().select(_PAUSE if timeout is None else min(timeout, _PAUSE))
