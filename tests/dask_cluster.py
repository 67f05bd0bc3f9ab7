"""A Dask cluster on this machine, as an administrator has it: a scheduler, and workers with one
thread each that are started again when they die.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAIN = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=None, memory_limit=0
    )
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
    cluster.close(timeout=5)
"""


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[str]:
    """Start a cluster, whose files are in ``folder``; give the address of its scheduler."""
    script = folder / "cluster.py"
    script.write_text(_MAIN)
    with (
        open(folder / "cluster.log", "wb") as log,
        subprocess.Popen(
            [sys.executable, script, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.stdin.close()
            process.wait(30)


def worker_of(session: Path, element: int) -> int:
    """Return the process of the worker that executes an element of the session in that folder."""
    guard = (session / f"elements/e{element}-r0").read_text().split()[1]
    return int(Path("/proc", guard, "stat").read_text().rpartition(")")[2].split()[1])
