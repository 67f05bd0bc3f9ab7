"""How many requests a session has in flight by its own count, looked at while it runs."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from pytest_siren.sharing.state import Board, SharedKey


class InFlight:
    """Joins the board of the session whose temporary folder is ``temporary``, and samples it.

    To be called often. ``samples`` are seconds since the epoch and requests in flight on ``model``.
    """

    def __init__(self, temporary: Path, model: str) -> None:
        self.samples: list[tuple[float, float]] = []
        self._temporary = temporary
        self._model = model
        self._board: Board | None = None
        self._key: SharedKey | None = None

    def __enter__(self) -> InFlight:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()

    def __call__(self, seconds: float) -> None:
        if self._key is None:
            for path in self._temporary.glob("pytest-siren-*/board"):
                self._board = Board(path)
                self._key = self._board.key(self._model)
        else:
            self.samples.append((time.time(), float(self._key.total_in_flight())))
