"""A model API on the loopback: ``benchmarks.server`` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]


@dataclass
class Server:
    """A running server."""

    url: str

    def stats(self) -> dict[str, int]:
        """Return what it has counted."""
        with urlopen(f"{self.url}/stats") as answer:
            stats: dict[str, int] = json.load(answer)
        return stats

    def trace(self) -> list[tuple[float, int, str]]:
        """Return seconds after the first request, requests in flight, and fault of each request."""
        with urlopen(f"{self.url}/trace") as answer:
            noted = sorted(json.load(answer))
        return [(at - noted[0][0], in_flight, fault) for at, in_flight, fault in noted]

    def reset(self) -> None:
        """Let it count anew."""
        urlopen(Request(f"{self.url}/reset", method="POST")).close()


StartServer: TypeAlias = Callable[..., Server]


@contextmanager
def servers() -> Iterator[StartServer]:
    """Yield what starts a server with options of its command line; all end with the context."""
    processes = []

    def start(*options: str) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", "--with-parent", *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return Server(f"http://127.0.0.1:{process.stdout.readline().strip()}")

    try:
        yield start
    finally:
        for process in processes:
            process.communicate()
