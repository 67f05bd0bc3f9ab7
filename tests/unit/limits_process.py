"""A process that takes places in a shared limiter and writes down when."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from pytest_siren.models.ratelimit.limiter import RateLimiters
from pytest_siren.sharing.state import Board


async def work(limiters: RateLimiters, requests: int, latency: float) -> list[str]:
    limiter = limiters.limiter("openai:gpt-5")
    lines = []

    async def one() -> None:
        await limiter.acquire()
        lines.append(f"{time.monotonic():.6f} 1")
        await asyncio.sleep(latency)
        lines.append(f"{time.monotonic():.6f} -1")
        limiter.release()

    await asyncio.gather(*(one() for _ in range(requests)))
    return lines


def main() -> None:
    path, requests, latency, rpm = sys.argv[1:]
    board = Board.open(Path(path))
    limiters = RateLimiters(board, ceiling=8, processes=2, rpm=float(rpm) or None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    lines = asyncio.run(work(limiters, int(requests), float(latency)))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
