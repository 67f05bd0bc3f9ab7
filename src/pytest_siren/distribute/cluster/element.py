"""An element: a job of an array, which starts processes of pytest and outlives Slurm's signals.

Slurm signals every process of a job: a pytest that got SIGUSR2 would die before it could write down
what it has. So the processes ignore these signals, and the element asks them to end by SIGINT.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_siren.distribute.cluster.presence import Presence
from pytest_siren.text.words import counted, escaped

if TYPE_CHECKING:
    from types import FrameType

    from submitit.helpers import DelayedSubmission

_IGNORED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT)
MOST_FRUITLESS = 3
"""Starts without any run that comes to its end, after which an element is given up."""
_POLL = 0.1
_MOST_STARTS = 10_000
_LONGEST_GRACE, _GRACE_POLL = 600.0, 2.0
"""Seconds between Slurm's notice and the end of a preempted job; between two questions about it."""
_REPORT = b'{"report":'
"""How a line with a report begins; other lines tell other things."""
_TAIL_LINES, _TAIL_BYTES = 20, 4096
_IN_ORDER = (0, 2)
"""Exit codes of a process that did its work, and of one that was asked to end."""


@dataclass(frozen=True)
class ElementResult:
    """What an element came to."""

    codes: Mapping[str, int]
    """Name of each process to its exit code; negative is the number of the signal that ended it."""
    problem: str = ""
    """What went wrong, for the user, with the end of the log; empty if nothing did."""
    broken: bool = False
    """Whether no process could begin, as in an environment that lacks a package."""


class FruitlessError(Exception):
    """An element is ended again and again before it has done anything."""


class _CannotStartError(Exception):
    """No process can be started on this node; says why."""


@dataclass
class _Child:
    """A process of the element."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    asked: bool = False
    """Whether it was asked to end; a second time would cut short what it has in flight."""
    noted: bool = False
    """Whether others know that it has ended."""


@dataclass
class Element:
    """The work of one element. submitit pickles it, also to start it again after a preemption.

    It holds nothing of what was done: that is in the session's folder, so each start goes on.
    """

    folder: Path
    """The session's."""
    number: int
    processes: int
    cwd: Path
    """Where the user started pytest."""
    patience: float = 20.0
    """Seconds that processes may take to end when they are asked to."""
    fruitless: int = 0
    """Starts in a row in which the engine ended the element before any run had come to its end."""
    module: str = "pytest_siren.distribute.cluster.child"
    """What each process executes, with the session's folder, its name and a pipe as arguments."""
    _children: list[_Child] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_children": []}

    def __call__(self) -> ElementResult:
        """Start the processes and wait for their ends.

        Raises ``SystemExit`` when SIGTERM asked for the end, so that the engine has its own word
        for what happened.
        """
        self._children = []
        start = self._count_start()
        again = f"-r{start}" if start else ""
        names = [f"e{self.number}.{process}{again}" for process in range(self.processes)]
        read, write = os.pipe()
        try:
            with self._ending_at_sigterm() as asked_to_end:
                try:
                    self._start(names, read)
                    self._wait()
                finally:
                    self._end()
            if asked_to_end:
                _stay_while_preempted()
                raise SystemExit(128 + signal.SIGTERM)
        except _CannotStartError as error:
            return ElementResult({}, str(error), broken=True)
        finally:
            os.close(read)
            os.close(write)
        return self._result()

    def checkpoint(self) -> DelayedSubmission:
        """End the processes, and return what is to be executed when the job runs again.

        submitit calls it in its signal handler. The main thread may be inside a method of ``Popen``
        and hold the lock that its other methods take, so none of them is called here. Raises
        ``FruitlessError`` where another start would not come further than those before.
        """
        from submitit.helpers import DelayedSubmission

        self._interrupt()
        self._wait(self.patience)
        done = any(_has_reported(self.folder, child.name) for child in self._children)
        self.fruitless = 0 if done else self.fruitless + 1
        if self.fruitless >= MOST_FRUITLESS:
            raise FruitlessError(
                f"no run came to its end in {MOST_FRUITLESS} starts; give elements more time with "
                "--slurm-time or slurm.time_minutes"
            )
        return DelayedSubmission(self)

    def _count_start(self) -> int:
        """Return how often the element was started before; no two starts get the same number.

        After a failure of the network the one that was started before may still be at work.
        """
        folder = self.folder / "elements"
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(_MOST_STARTS):
            with suppress(FileExistsError):
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
                file = os.open(folder / f"e{self.number}-r{start}", flags)
                with os.fdopen(file, "w") as started:
                    started.write(f"{socket.gethostname()} {os.getpid()}\n")
                return start
        raise RuntimeError(f"element {self.number} has been started {_MOST_STARTS:,} times")

    def _start(self, names: Sequence[str], alive: int) -> None:
        try:
            self._children.extend(self._started(name, alive) for name in names)
        except OSError as error:
            raise _CannotStartError(self._cannot_start(error)) from None

    def _started(self, name: str, alive: int) -> _Child:
        """Start a process, which ends when the other end of ``alive`` is closed."""
        log = self.folder / "engine" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SUBMITIT_")
        }
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module, str(self.folder), name, str(alive)],
                cwd=str(self.cwd),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=(alive,),
                start_new_session=True,
                # Before exec, and thus before any signal can arrive: what is ignored stays so.
                preexec_fn=_ignore_signals,
            )
        return _Child(name, log, process)

    @contextmanager
    def _ending_at_sigterm(self) -> Iterator[list[int]]:
        """Ask the processes to end at SIGTERM, which is then in the list that this yields."""
        received: list[int] = []

        def ask(number: int, frame: FrameType | None) -> None:
            received.append(number)
            self._interrupt()

        if threading.current_thread() is not threading.main_thread():
            yield received
            return
        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield received
        finally:
            signal.signal(signal.SIGTERM, before)

    def _interrupt(self) -> None:
        for child in self._children:
            if not child.asked and not _ended(child):
                child.asked = True
                os.kill(child.process.pid, signal.SIGINT)

    def _wait(self, seconds: float | None = None) -> None:
        """Wait until all processes have ended, at most ``seconds``."""
        until = None if seconds is None else time.monotonic() + seconds
        while not all(_ended(child) for child in self._children):
            self._note_ends()
            if until is not None and time.monotonic() > until:
                return
            time.sleep(_POLL)

    def _end(self) -> None:
        """End whatever still runs, and what it started."""
        if not all(_ended(child) for child in self._children):
            self._interrupt()
            self._wait(self.patience)
        for child in self._children:
            if not _ended(child):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        self._note_ends()

    def _note_ends(self) -> None:
        """Let others take over at once what a process had, also one that was killed."""
        presence = Presence(self.folder / "processes")
        for child in self._children:
            if _ended(child) and not child.noted:
                child.noted = True
                # Where the folder is gone, nobody is left to know.
                with suppress(FileNotFoundError):
                    presence.gone(child.name)

    def _result(self) -> ElementResult:
        codes = {child.name: child.process.returncode for child in self._children}
        failed = [child for child in self._children if codes[child.name] not in _IN_ORDER]
        if not failed:
            return ElementResult(codes)
        begun = any(_began(self.folder, child.name) for child in self._children)
        first = failed[0]
        others = f" (and {counted(len(failed) - 1, 'other')})" if len(failed) > 1 else ""
        what = "failed" if begun else "could not begin"
        problem = (
            f"process {first.name}{others} {what} on {socket.gethostname()}: "
            f"{_ending(codes[first.name])}; the end of {first.log}:\n{tail(first.log)}"
        )
        return ElementResult(codes, problem, broken=not begun)

    def _cannot_start(self, error: OSError) -> str:
        problem = f"no process could be started on {socket.gethostname()}: {error}"
        if not isinstance(error, FileNotFoundError):
            return problem
        return f"{problem}; are {self.cwd} and {sys.executable} on a file system that all share?"


def end_with_element(alive: int) -> None:
    """Kill this process as soon as the element that started it has gone, however it went.

    ``alive`` is the number of a pipe whose other end only the element holds.
    """

    def watch() -> None:
        with suppress(OSError):
            os.read(alive, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="siren-element", daemon=True).start()


def _stay_while_preempted() -> None:
    """Wait for the end of a preemption, if this is one.

    Slurm starts a preempted job again only if it is still there at the end of its grace. Until then
    its state is RUNNING; that of one which was cancelled or is out of time is COMPLETING.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return
    until = time.monotonic() + _LONGEST_GRACE
    while _slurm_state() == "RUNNING" and time.monotonic() < until:
        time.sleep(_GRACE_POLL)


def _slurm_state() -> str:
    """Return Slurm's word for the job that this process is in; empty if it does not answer."""
    command = ["squeue", "-h", "-o", "%T", "-j", os.environ["SLURM_JOB_ID"]]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip()


def _ignore_signals() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


def _ended(child: _Child) -> bool:
    """Whether the process has ended; ``Popen.wait`` still finds it."""
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, child.process.pid, options) is not None
    except ChildProcessError:
        return True


def _began(folder: Path, name: str) -> bool:
    """Whether the process came as far as to its reports."""
    return (folder / "reports" / f"{name}.jsonl").exists()


def _has_reported(folder: Path, name: str) -> bool:
    """Whether the process has reported any run, which it does at the run's end."""
    try:
        with (folder / "reports" / f"{name}.jsonl").open("rb") as lines:
            return any(line.startswith(_REPORT) for line in lines)
    except FileNotFoundError:
        return False


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def tail(log: Path) -> str:
    """Return the last lines of ``log``, indented and without control characters."""
    data = log.read_bytes()[-_TAIL_BYTES:]
    lines = data.decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    return "\n".join(f"    {escaped(line)}" for line in lines)
