"""The budgets of a process, which it shares with the others of its session."""

from __future__ import annotations

from functools import partial

from pytest_siren.models.limits.budget import Budget, Caps
from pytest_siren.models.limits.cells import BoardCells, LocalCells
from pytest_siren.models.limits.waits import Waits
from pytest_siren.sharing.board import Board


class Governor:
    """Gives every model its budget.

    ``ceiling`` is the most requests that one process has in flight, ``rpm`` and ``tpm`` are the
    most requests and tokens a minute of all ``processes`` together, per model.
    """

    def __init__(
        self,
        board: Board | None,
        ceiling: int,
        processes: int = 1,
        rpm: float | None = None,
        tpm: float | None = None,
    ) -> None:
        self._board = board
        self._ceiling = ceiling
        self._processes = max(1, processes)
        self._caps = Caps(rpm, tpm)
        self._waits = Waits(board)
        self._budgets: dict[str, Budget] = {}

    def budget(self, key: str) -> Budget:
        """Return the budget of ``key``, a provider and its model such as ``openai:gpt-5``."""
        if key not in self._budgets:
            board = self._board
            self._budgets[key] = Budget(
                LocalCells() if board is None else BoardCells(board.key(key)),
                ceiling=self._ceiling,
                processes=self._processes,
                caps=self._caps,
                waits=self._waits,
                unavailable=None if board is None else partial(board.key_stopped, key),
            )
        return self._budgets[key]
