"""Facts about the machine and the parts that were measured; nothing that names the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.folders import place

_VERSIONS = """
import importlib.metadata as metadata, json, sys
found = {"Python": "%d.%d.%d" % sys.version_info[:3]}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def facts() -> str:
    """Return one line: cores, memory, kind of machine."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{cores} cores", f"{memory:.0f} GB of memory", platform.system(), platform.machine()]
    return ", ".join([*parts, *_processor(), f"files in {place()}"])


def _processor() -> list[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return []
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return [names[0].partition(":")[2].strip()] if names else []


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of those ``packages`` that ``python`` has."""
    command = [str(python), "-c", _VERSIONS, *packages]
    found: dict[str, str] = json.loads(subprocess.check_output(command, text=True))
    return found
