"""The server as a child process, for as long as a ``with`` block lasts."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Serving:
    """Where a server listens, and what it has seen."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """For ``OPENAI_BASE_URL``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        """Return the counts; see ``benchmarks.server.Stats``."""
        stats: dict[str, Any] = self._ask("stats", None)
        return stats

    def reset(self) -> dict[str, Any]:
        """Return the counts and start anew."""
        stats: dict[str, Any] = self._ask("reset", b"")
        return stats

    def trace(self) -> list[tuple[float, int, str]]:
        """Return what was noted of each request; see ``benchmarks.server.State``."""
        return [(at, in_flight, fault) for at, in_flight, fault in self._ask("trace", None)]

    def _ask(self, path: str, body: bytes | None) -> Any:
        address = f"http://127.0.0.1:{self.port}/{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(address, data=body), timeout=30) as answer:
            return json.load(answer)


@contextmanager
def serving(
    latency: float,
    calls: Sequence[tuple[str, dict[str, Any]]] = (),
    *options: str,
) -> Iterator[Serving]:
    """Serve on a free port; ``options`` are further ones of ``python -m benchmarks.server``."""
    command = [sys.executable, "-m", "benchmarks.server", "--with-parent"]
    command += ["--latency", str(latency), "--calls", json.dumps(calls), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start (exit code {process.wait()})")
        yield Serving(int(line), process.pid)
