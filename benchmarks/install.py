"""Install every harness into a virtual environment of its own: ``python -m benchmarks.install``.

``requirements/NAME.txt`` becomes ``.bench/NAME``. One that cannot be installed is named and
passed over; the benchmarks then run without it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.report import say
from benchmarks.serving import ROOT

ENVIRONMENTS = ROOT / ".bench"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


def python_of(name: str) -> Path | None:
    """Return the Python of a harness; ``None`` when it is not installed.

    Raises ``SystemExit`` when its requirements have changed since it was installed.
    """
    folder = ENVIRONMENTS / name
    stamp = folder / "installed"
    if not stamp.exists():
        return None
    if stamp.read_text() != _digest(REQUIREMENTS / f"{name}.txt"):
        raise SystemExit(f"{folder} is out of date; run: python -m benchmarks.install")
    return folder / "bin" / "python"


def install(requirements: Path) -> str | None:
    """Install one harness unless it is there already. Returns what went wrong."""
    folder = ENVIRONMENTS / requirements.stem
    wanted = _digest(requirements)
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    make = [sys.executable, "-m", "venv", str(folder)]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for command in (make, [*pip, "install", "-r", str(requirements)]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return errors[-1] if errors else f"exit code {done.returncode}"
    stamp.write_text(wanted)
    return None


def _digest(requirements: Path) -> str:
    files = [requirements]
    if "-e ." in requirements.read_text():
        files += [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main() -> None:
    """Install all."""
    for requirements in sorted(REQUIREMENTS.glob("*.txt")):
        say(f"{requirements.stem}: installing")
        problem = install(requirements)
        say(f"{requirements.stem}: {f'not installed: {problem}' if problem else 'installed'}")


if __name__ == "__main__":
    main()
