"""Elements that are tasks of Dask, on a cluster that is there or on one that the session starts.

A process of its own speaks with Dask, so that none of Dask's threads are in pytest's, and a Ctrl-C
reaches no worker. Results are files, as those of submitit.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_siren.distribute.cluster.element import Element, tail
from pytest_siren.distribute.cluster.engines.base import (
    ElementState,
    ElementStatus,
    EngineError,
    SubmitError,
)
from pytest_siren.distribute.cluster.engines.results import (
    ended_status,
    log_of,
    lost_status,
    results_in,
)
from pytest_siren.distribute.cluster.engines.submission import (
    environment,
    interrupts_deferred,
    plain,
)
from pytest_siren.distribute.cluster.settings import Settings
from pytest_siren.text.words import escaped

_LONGEST = 60.0
"""Seconds that an answer may take: a cluster may have to be started."""
_LATE = 5.0
"""Seconds that a result may be behind what the scheduler knows."""
_SILENCE = 60.0
"""Seconds without an answer after which a scheduler has died, and its workers with it."""
_CLOSING = 15.0
"""Seconds that a cluster of the session has to end."""
_ADDRESS, _LOG = "scheduler", "dask.log"
_OF_WORKER = (
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("HOSTNAME", "TMPDIR"),
)
"""Variables of the environment that a worker, and not the session, decides for an element."""


class _GoneError(EngineError):
    """The scheduler does not exist any more, and its tasks have gone with it."""


@dataclass
class DaskEngine:
    """Has the elements executed as tasks: ``dask`` or ``dask:ADDRESS``. An id is a task's key."""

    folder: Path
    name: str
    _process: subprocess.Popen[bytes] | None = None
    _missed: dict[str, float] = field(default_factory=dict)
    """When an element was first found to have gone without a result."""
    _ended: dict[str, ElementStatus] = field(default_factory=dict)
    _submitted: set[str] = field(default_factory=set)
    _silent_since: float | None = None

    def submit(self, elements: Sequence[Element], settings: Settings) -> list[str]:
        """Submit a task for each element."""
        self.folder.mkdir(parents=True, exist_ok=True)
        array = f"siren-{secrets.token_hex(3)}"
        keys = {f"{array}_{element.number}": element for element in elements}
        self._submitted.update(keys)
        request = {
            "asked": "submit",
            "keys": list(keys),
            "requests": [str(self._request(key, element)) for key, element in keys.items()],
            "workers": len(self._submitted - self._ended.keys()),
        }
        with interrupts_deferred() as interrupts:
            try:
                address = self._ask(request)["address"]
            except EngineError as error:
                self._forbid(keys)
                raise SubmitError(f"{self.name}: {error}") from None
            (self.folder / _ADDRESS).write_text(address)
            if interrupts:
                self.cancel(list(keys))
        return list(keys)

    def _request(self, key: str, element: Element) -> Path:
        """Write what the task of an element is to start; return the file, which it removes."""
        module = f"{__package__}.dask_element"
        command = [sys.executable, "-P", "-m", module, str(self.folder), key]
        request = {
            "command": [*command, json.dumps(plain(element))],
            "cwd": str(element.cwd),
            "environment": environment(),
            "own": _OF_WORKER,
            "log": str(log_of(self.folder, key)),
        }
        path = self.folder / f"{key}.json"
        # The environment may hold keys of APIs.
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(request, file)
        return path

    def statuses(self, ids: Sequence[str]) -> Mapping[str, ElementStatus]:
        """Return what the scheduler and the results say, in this order."""
        open_ids = [one for one in ids if one not in self._ended]
        found = self._look(open_ids) if open_ids else {}
        ended = (one for one in found.items() if one[1].state is ElementState.ENDED)
        self._ended.update(ended)
        return {one: self._ended.get(one) or found[one] for one in ids}

    def _look(self, ids: Sequence[str]) -> dict[str, ElementStatus]:
        try:
            known, silence = self._ask({"asked": "look", "keys": list(ids)}), None
            self._silent_since = None
        except EngineError as error:
            known, silence = {"known": [], "workers": [], "errors": {}}, error
            self._silent_since = self._silent_since or time.monotonic()
        # Whatever ends between the two looks has left its result by the second.
        done = results_in(self.folder)
        found: dict[str, ElementStatus] = {}
        for one in ids:
            status = ended_status(self.folder, one) if one in done else None
            status = status or self._cancelled(one)
            status = status or (self._unheard(one, silence) if silence else None)
            found[one] = status or self._status(one, known)
        return found

    def _status(self, element: str, known: Mapping[str, Any]) -> ElementStatus:
        """Return the status of one that has left no result, as the scheduler knows it."""
        log = log_of(self.folder, element)
        worker = self._worker(element)
        if (error := known["errors"].get(element)) is not None:
            shared = "" if worker else f"; do all workers share {self.folder}?"
            reason = f"{escaped(error)}{shared}"
            return ElementStatus(ElementState.ENDED, reason, log, failed=True, broken=True)
        if worker is None and element in known["known"]:
            busy = "all workers are busy" if known["workers"] else "no workers"
            return ElementStatus(ElementState.PENDING, busy)
        if worker in known["workers"] and element in known["known"]:
            self._missed.pop(element, None)
            return ElementStatus(ElementState.RUNNING, log=log)
        since = self._missed.setdefault(element, time.monotonic())
        if time.monotonic() - since < _LATE:
            return ElementStatus(ElementState.UNKNOWN, "has left no result yet", log)
        if worker is None or worker in known["workers"]:
            return lost_status(self.folder, element, "the scheduler does not know it any more")
        return lost_status(self.folder, element, "its worker has died")

    def _unheard(self, element: str, silence: EngineError) -> ElementStatus:
        """Return the status of an element whose scheduler does not answer."""
        assert self._silent_since is not None
        silent = time.monotonic() - self._silent_since
        if silent > _SILENCE or (isinstance(silence, _GoneError) and silent > _LATE):
            return lost_status(self.folder, element, f"Dask has gone: {silence}")
        reason = f"Dask does not answer: {silence}"
        return ElementStatus(ElementState.UNKNOWN, reason, log_of(self.folder, element))

    def _cancelled(self, element: str) -> ElementStatus | None:
        """Return the status of an element that was cancelled before a worker began with it."""
        if self._forbidden(element) and self._worker(element) is None:
            return ElementStatus(ElementState.ENDED, "cancelled", failed=True, cancelled=True)
        return None

    def _worker(self, element: str) -> str | None:
        """Return the id of the worker that has begun with the element."""
        with suppress(FileNotFoundError):
            return os.readlink(self.folder / f"{element}.worker")
        return None

    def _forbidden(self, element: str) -> bool:
        return (self.folder / f"{element}.cancelled").exists()

    def _forbid(self, elements: Sequence[str] | Mapping[str, object]) -> None:
        """Let no worker begin with these elements, and ask those that run to end."""
        for one in elements:
            (self.folder / f"{one}.cancelled").touch()
            (self.folder / f"{one}.json").unlink(missing_ok=True)

    def cancel(self, ids: Sequence[str]) -> None:
        """End them: workers see it by a file, also without the scheduler."""
        left = [one for one in ids if one not in self._ended]
        self._forbid(left)
        # Those that run would be forgotten at once, and their workers taken for free.
        if waiting := [one for one in left if self._worker(one) is None]:
            self._ask({"asked": "cancel", "keys": waiting})

    def drive(self) -> None:
        """Nothing is executed in this process."""

    def close(self) -> None:
        """End the process that speaks with Dask, and the cluster that it has started."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    # The process that speaks with Dask.

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to ``request``. Raises ``EngineError``."""
        process = self._speaker()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{json.dumps(request)}\n".encode())
        except BrokenPipeError:
            line = b""
        else:
            line = _line(process)
        if not line:
            self.close()
            words = tail(self.folder / _LOG)
            raise EngineError(f"the process that speaks with Dask has ended:\n{words}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = _GoneError if answer["gone"] else EngineError
            raise kind(escaped(answer["error"]))
        return answer

    def _speaker(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        address = self.name.partition(":")[2]
        if not address and (self.folder / _ADDRESS).exists():
            # Of the session that started this cluster.
            address = (self.folder / _ADDRESS).read_text()
        command = [sys.executable, "-P", "-m", f"{__package__}.dask_process"]
        with (self.folder / _LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *([address] if address else [])],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        return self._process


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the line that the process writes; empty if it ends, or is killed for its silence."""
    assert process.stdout is not None
    until, found = time.monotonic() + _LONGEST, b""
    while not found.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
        more = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        if not more:
            return b""
        found += more
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with process:
        process.stdin.close()
        try:
            process.wait(_CLOSING)
        except subprocess.TimeoutExpired:
            process.kill()
