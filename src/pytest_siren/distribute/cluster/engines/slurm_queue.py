"""Slurm's commands: ``squeue`` for the elements that live, ``sacct`` for the others."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from pytest_siren.distribute.cluster.engines.base import ElementState, EngineError
from pytest_siren.text.words import escaped

_LONGEST = 30.0
"""Seconds that a command may take."""
_NO_REASON = "None"
"""What Slurm says of an element that it has not considered yet."""
_WAITING = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"),
    *("RESV_DEL_HOLD", "SPECIAL_EXIT"),
}
_NOT_ENDED = {"PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "RESIZING"}
"""States in the accounts that no element which has left the queue can be in."""
_GONE = ("Invalid job id", "already completing or completed", "already finished")


@dataclass(frozen=True)
class QueueEntry:
    """An element in Slurm's queue."""

    state: ElementState
    reason: str
    """Why it waits; empty for one that runs."""
    leaving: bool
    """Whether Slurm is only cleaning up after it."""


class QueueQuestion:
    """A question to Slurm for the user's elements in its queue.

    The answer takes some milliseconds, or ten seconds where Slurm's controller is away; nobody
    should have to wait for it.
    """

    def __init__(self) -> None:
        """Ask. Raises ``EngineError`` where that cannot be asked."""
        self._output, self._errors = TemporaryFile(), TemporaryFile()
        self._deadline = time.monotonic() + _LONGEST
        # All of the user's: with -j, a job that was forgotten since would be an error.
        command = ["squeue", "--me", "-h", "-r", "-o", "%i|%T|%r"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors
            )
        except OSError as error:
            raise EngineError(escaped(str(error))) from None

    def answer(self, seconds: float) -> Mapping[str, QueueEntry] | None:
        """Return the elements by their ids; ``None`` if there is no answer within ``seconds``.

        Raises ``EngineError`` where Slurm does not answer at all.
        """
        left = self._deadline - time.monotonic()
        try:
            code = self._process.wait(max(0.0, min(seconds, left)))
        except subprocess.TimeoutExpired:
            if seconds < left:
                return None
            raise EngineError(f"squeue did not answer within {_LONGEST:g} seconds") from None
        if code:
            raise _refused("squeue", code, _text(self._errors))
        lines = _text(self._output).splitlines()
        return dict(_entry(*line.split("|", 2)) for line in lines if line.count("|") >= 2)

    def close(self) -> None:
        """Do without an answer."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._errors.close()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _entry(element: str, state: str, reason: str) -> tuple[str, QueueEntry]:
    if state in _WAITING:
        said = "" if reason == _NO_REASON else escaped(reason)
        return element, QueueEntry(ElementState.PENDING, said, leaving=False)
    return element, QueueEntry(ElementState.RUNNING, "", leaving=state == "COMPLETING")


def accounts(elements: Iterable[str]) -> Mapping[str, str]:
    """Return the last word of Slurm's accounting on elements that have left the queue, by id.

    Without an entry for those that have none, and empty where there is no accounting.
    """
    ids = ",".join(elements)
    try:
        output = _output(["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids])
    except EngineError:
        return {}
    pairs = (line.split("|", 1) for line in output.splitlines() if "|" in line)
    return {element: state for element, state in pairs if state not in _NOT_ENDED}


def cancel(elements: Sequence[str]) -> None:
    """End elements, and start none of them any more. Raises ``EngineError``."""
    try:
        _output(["scancel", *elements])
    except EngineError as error:
        # scancel goes on after those that have ended.
        others = [line for line in str(error).splitlines() if not any(w in line for w in _GONE)]
        if others:
            raise EngineError("\n".join(others)) from None


def partitions() -> Sequence[str]:
    """Return the names of the partitions; empty where Slurm does not answer."""
    try:
        return _output(["sinfo", "-h", "-o", "%R"]).split()
    except EngineError:
        return []


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LONGEST
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(escaped(str(error))) from None
    if done.returncode:
        raise _refused(command[0], done.returncode, done.stderr)
    return done.stdout


def _refused(command: str, code: int, errors: str) -> EngineError:
    words = [escaped(line) for line in errors.strip().splitlines()]
    return EngineError("\n".join(words) or f"{command} exited with {code}")
