"""What a session spends, as all its processes see it."""

from __future__ import annotations

from decimal import Decimal

from pytest_siren.sharing.board import Board, Gauge


class BoardSpend:
    """Adds the answers of this process to the board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def add(
        self, input_tokens: int, output_tokens: int, cost: Decimal | None, unknown: str = ""
    ) -> None:
        board = self._board
        board[Gauge.INPUT_TOKENS] += input_tokens
        board[Gauge.OUTPUT_TOKENS] += output_tokens
        if cost is None:
            board.unpriced(unknown)
        elif cost:
            board[Gauge.COST] += float(cost)
