"""Elements that are processes of this machine, by submitit's executor ``local``."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_siren.distribute.cluster.element import Element
from pytest_siren.distribute.cluster.engines.base import ElementState, ElementStatus
from pytest_siren.distribute.cluster.engines.results import (
    ended_status,
    log_of,
    lost_status,
    results_in,
)
from pytest_siren.distribute.cluster.engines.submission import submit
from pytest_siren.distribute.cluster.settings import Settings
from pytest_siren.sharing.state import host, lives

_HOST = "host"
"""File with the name of the machine."""


@dataclass
class LocalEngine:
    """Starts all elements at once. An id is the one of the process that guards the element."""

    folder: Path
    name: str = "local"

    def submit(self, elements: Sequence[Element], settings: Settings) -> list[str]:
        """Start them, in a session of their own, so that they survive this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _HOST).write_text(host())
        parameters = settings.parameters(self.name)
        return submit(self.name, self.folder, parameters, elements, self.cancel)

    def statuses(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return what processes and files say."""
        if (elsewhere := (self.folder / _HOST).read_text()) != host():
            reason = f"runs on {elsewhere}, if it still does"
            return {one: ElementStatus(ElementState.UNKNOWN, reason) for one in ids}
        # Processes first: whatever ends between the two looks has left its result by the second.
        running = {one for one in ids if self._runs(one)}
        done = results_in(self.folder)
        return {one: self._status(one, one in running, one in done) for one in ids}

    def _status(self, element: str, runs: bool, done: bool) -> ElementStatus:
        if runs:
            return ElementStatus(ElementState.RUNNING, log=log_of(self.folder, element))
        status = ended_status(self.folder, element) if done else None
        return status or lost_status(self.folder, element, "ended without a result")

    def cancel(self, ids: Sequence[str]) -> None:
        """End them: they have a second."""
        for one in ids:
            if self._runs(one):
                with suppress(ProcessLookupError):
                    os.kill(int(one), signal.SIGINT)

    def drive(self) -> None:
        """Nothing is executed in this process."""

    def close(self) -> None:
        """Nothing is held."""

    def _runs(self, element: str) -> bool:
        """Whether the process is there, and not another one that has its id by now."""
        process = Path("/proc", element)
        try:
            command = (process / "cmdline").read_bytes()
            if command:
                return os.fsencode(self.folder) in command
            # Either it has ended and nobody took notice yet, or it is only just being started.
            return not (process / "stat").read_text().rpartition(")")[2].startswith(" Z")
        except OSError:
            return not Path("/proc/self").exists() and lives(int(element))
