"""Tells the board how many runs of this process wait for a rate limit, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_siren.evaluation.isolation import waiting
from pytest_siren.sharing.board import Board, Gauge


class Waits:
    """The waits of one process, and what it counts."""

    def __init__(self, board: Board | None) -> None:
        self._board = board
        self._until: dict[object, float] = {}

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """Count one more that waits until ``moment``, in seconds since the epoch."""
        with waiting(), self._shown(moment):
            yield

    @contextmanager
    def _shown(self, moment: float) -> Iterator[None]:
        if self._board is None:
            yield
            return
        mark = object()
        self._until[mark] = moment
        self._show(self._board)
        try:
            yield
        finally:
            del self._until[mark]
            self._show(self._board)

    def count(self, gauge: Gauge) -> None:
        """Count one more of what ``gauge`` counts."""
        if self._board is not None:
            self._board[gauge] += 1

    def _show(self, board: Board) -> None:
        board[Gauge.HELD] = len(self._until)
        board[Gauge.RESUMES_AT] = min(self._until.values(), default=0.0)
