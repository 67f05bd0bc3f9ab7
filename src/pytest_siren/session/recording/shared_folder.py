"""The temporary folder that the processes of one session share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_siren.sharing.state import TemporaryFolder

_COLLECTED = "collected.json"


@dataclass(frozen=True)
class Collected:
    """Which of the collected items are runs; the same in all processes of a session."""

    runs: Sequence[tuple[int, int]]
    """Runs among the items, as half-open ranges of their positions."""
    window: int
    """Runs that one process keeps in flight."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Identity of a job's configuration to the path of its folder."""
    paid: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    """Models that may cost money, with their runs and whether their price is known."""
    recorded: Sequence[tuple[int, int]] = ()
    """Runs, as such ranges, that are reported from their records."""

    @property
    def total(self) -> int:
        return sum(stop - start for start, stop in self.runs)


@dataclass(frozen=True)
class SessionFolder(TemporaryFolder):
    """What the processes of a session tell each other beside the board."""

    def write_collected(self, collected: Collected) -> None:
        """Tell the controller what was collected; the first process to do so is enough."""
        temporary = self.path / f".collected-{os.getpid()}"
        temporary.write_text(json.dumps(asdict(collected)), encoding="utf-8")
        os.replace(temporary, self.path / _COLLECTED)

    def has_planned(self, records: str) -> bool:
        """Whether a process has written what those with the same jobs are to execute."""
        return (self.path / f"planned-{records}.json").exists()

    def write_planned(self, records: str, data: Mapping[str, Any]) -> None:
        """Tell the controller what the processes that share jobs are to execute."""
        temporary = self.path / f".planned-{os.getpid()}"
        temporary.write_text(json.dumps(data), encoding="utf-8")
        os.replace(temporary, self.path / f"planned-{records}.json")

    def planned(self) -> Iterator[dict[str, Any]]:
        """Yield what was written with ``write_planned``."""
        for path in sorted(self.path.glob("planned-*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def write_pid(self, worker: str) -> None:
        """Tell the controller which process the worker of that name is."""
        (self.path / f"{worker}.pid").write_text(str(os.getpid()), encoding="utf-8")

    def pid(self, worker: str) -> int | None:
        """Return the process of a worker; ``None`` when it saw no eval file."""
        try:
            return int((self.path / f"{worker}.pid").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def collected(self) -> Collected | None:
        """Return what was collected; ``None`` when there is no run in it."""
        try:
            data = json.loads((self.path / _COLLECTED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        runs = [(start, stop) for start, stop in data["runs"]]
        recorded = [(start, stop) for start, stop in data["recorded"]]
        paid = {model: (runs, priced) for model, (runs, priced) in data["paid"].items()}
        return Collected(runs, data["window"], data["jobs"], paid, recorded)


def ranges(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending ``positions`` as half-open ranges."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found
