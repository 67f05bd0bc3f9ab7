"""A process that joins a shared state and does one thing: ``KIND PLACE WHAT``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from decimal import Decimal
from pathlib import Path

from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.sharing.files import SharedFiles
from pytest_siren.sharing.state import Board, Gauge, SharedSpend, SharedState

MODEL = "openai:gpt-5"
KINDS = ("board", "files")


def joined(kind: str, place: Path) -> SharedState:
    """Join the state of that kind at ``place``, which is made if it is new."""
    return Board.open(place) if kind == "board" else SharedFiles.open(place)


def dies(state: SharedState) -> None:
    """End as a killed process does, in the midst of all that one can hold."""
    state[Gauge.RUNNING], state[Gauge.REQUESTS] = 3, 5
    cells = state.key(MODEL)
    cells.in_flight, cells.waiting = 5, 2
    if isinstance(state, SharedFiles):
        state.stopped  # noqa: B018 - what was set is written when somebody looks
        time.sleep(0.1)
        state.stopped  # noqa: B018
    sys.stdout.write(f"{cells.total_in_flight()} {cells.total_waiting()}\n")
    sys.stdout.flush()
    os._exit(0)


def counts(state: SharedState) -> None:
    """Count to 100 in a shared cell."""
    cells = state.key(MODEL)
    for _ in range(100):
        with cells.lock():
            cells[3] = cells[3] + 1


def spends(state: SharedState) -> None:
    """Spend a dollar in 100 answers, and one whose price nobody knows."""
    spend = SharedSpend(state)
    for _ in range(100):
        spend.add(10, 2, Decimal("0.01"))
    spend.add(10, 2, None, "no price for it")


async def sends(state: SharedState) -> None:
    """Take 15 places of 600 a minute, and write down when."""
    limiter = RateLimiters(state, ceiling=8, processes=2, rpm=600).limiter(MODEL)
    for _ in range(15):
        await limiter.acquire()
        sys.stdout.write(f"{time.time():.6f}\n")
        limiter.release()


def main() -> None:
    kind, place, what = sys.argv[1:]
    state = joined(kind, Path(place))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    match what:
        case "dies":
            dies(state)
        case "counts":
            counts(state)
        case "spends":
            spends(state)
        case "sends":
            asyncio.run(sends(state))
        case "stops":
            state.stop("the budget is spent")
        case "locks":
            state.key(MODEL).lock().__enter__()
            os._exit(0)
    state.close()


if __name__ == "__main__":
    main()
