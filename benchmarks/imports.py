"""How long ``siren import agentdojo`` takes over a whole leaderboard, and how much memory.

Run it with ``python -m benchmarks.imports FOLDER [--files N] [--json FILE]``, where FOLDER holds
pipelines as AgentDojo's logger writes them (``PIPELINE/SUITE/TASK/ATTACK/INJECTION.json``). They
are copied, each time under other names, until there are N files (36,000, some 50 pipelines), and
imported by a process of its own, whose import of AgentDojo's package is included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.folders import temporary

_COMMAND = "from pytest_siren.cli.main import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Import:
    """One import."""

    files: int
    megabytes: float
    """Of the log files."""
    seconds: float
    cpu: float
    """Seconds of the process, those of its threads included."""
    peak: float
    """Megabytes of memory at most."""

    @property
    def rate(self) -> float:
        """Files a second."""
        return self.files / self.seconds


def measured(source: Path, files: int, folder: Path) -> Import:
    """Copy ``files`` logs of ``source`` into ``folder``, and import them there."""
    logs = folder / "logs"
    size = _copy(source, logs, files)
    os.sync()
    command = [sys.executable, "-c", _COMMAND, "import", "agentdojo", str(logs)]
    before, began = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, "--injection-tasks", "--jobs-dir", str(folder / "jobs")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds, after = time.perf_counter() - began, getrusage(RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Import(files, size / 1e6, seconds, cpu, after.ru_maxrss / 1e3)


def _copy(source: Path, target: Path, files: int) -> int:
    """Copy ``files`` logs below ``source``; return their size in bytes."""
    found = sorted(path for path in source.rglob("*.json"))
    if not found:
        raise SystemExit(f"{source} holds no logs")
    size = 0
    numbered = ((number, path) for number in count() for path in found)
    for number, path in islice(numbered, files):
        pipeline, *below = path.relative_to(source).parts
        place = target.joinpath(f"{pipeline}-{number}", *below)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        size += place.stat().st_size
    return size


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=36_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with temporary() as name:
        found = measured(args.folder, args.files, Path(name))
    sys.stdout.write(
        f"{found.files:,} files, {found.megabytes:,.0f} MB: {found.seconds:.1f} s "
        f"({found.rate:,.0f} files a second), {found.cpu:.1f} s of CPU, {found.peak:,.0f} MB\n"
    )
    if args.json:
        args.json.write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
