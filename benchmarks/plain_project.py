"""What the installed plugin costs a project without evaluations."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.folders import temporary
from benchmarks.peers import siren
from benchmarks.processes import Command, execute
from benchmarks.report import say

_TESTS = 50


@dataclass(frozen=True)
class Difference:
    """Seconds of CPU of whole sessions, with the plugin and twice without, in turns."""

    with_plugin: tuple[float, ...]
    without: tuple[float, ...]
    without_again: tuple[float, ...]

    @property
    def extra(self) -> float:
        """How much more the median session with the plugin takes, in seconds."""
        return statistics.median(self.with_plugin) - statistics.median(
            self.without + self.without_again
        )

    @property
    def noise(self) -> float:
        """Half the width, in seconds, of the range of the middle half of the sessions without."""
        lower, _, upper = statistics.quantiles(self.without + self.without_again)
        return (upper - lower) / 2


def sessions(rounds: int) -> Difference:
    """Run a small project's tests again and again, with the plugin and without."""
    taken: list[tuple[float, float, float]] = []
    with temporary() as name:
        folder = _project(Path(name))
        for _ in range(rounds + 1):
            without = (_cpu(folder, "-p", "no:siren"), _cpu(folder, "-p", "no:siren"))
            taken.append((_cpu(folder), *without))
    # The first round fills the caches of the file system.
    with_plugin, without, again = zip(*taken[1:], strict=True)
    return Difference(with_plugin, without, again)


def import_time(rounds: int) -> float:
    """Return the seconds that imports take longer with the plugin, by ``-X importtime``.

    Other plugins are kept out of both sessions, for they import a part of the same modules. The
    least of ``rounds`` is taken of both: what disturbs only adds.
    """
    bare, loaded = [], []
    with temporary() as name:
        folder = _project(Path(name))
        for _ in range(rounds + 1):
            bare.append(_imports(folder))
            loaded.append(_imports(folder, "-p", "pytest_siren.plugin"))
    return min(loaded[1:]) - min(bare[1:])


def _project(folder: Path) -> Path:
    test = "@pytest.mark.parametrize('number', range({}))\ndef test_it(number):\n    assert True\n"
    (folder / "test_it.py").write_text("import pytest\n\n\n" + test.format(_TESTS))
    (folder / "data.yaml").write_text("a: 1\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def _cpu(folder: Path, *options: str) -> float:
    arguments = (str(siren.python()), "-m", "pytest", "-q", "-p", "no:cacheprovider", *options)
    return execute(Command(arguments, folder)).cpu


def _imports(folder: Path, *options: str) -> float:
    arguments: Sequence[str] = (str(siren.python()), "-X", "importtime", "-m", "pytest", "-q")
    done = subprocess.run(
        [*arguments, "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    own = [line.split("|")[0] for line in done.stderr.splitlines() if line.startswith("import ti")]
    return sum(int(part.partition(":")[2]) for part in own[1:]) / 1e6


def say_plan(rounds: int) -> None:
    """Tell what is about to happen."""
    say(f"plain-project: {_TESTS} ordinary tests, {rounds} rounds with the plugin and without")
