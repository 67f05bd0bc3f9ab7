"""Programs in processes of their own, which end with all that they started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from pytest_siren.evaluation.isolation import in_thread, undisturbed

RUN_VARIABLE = "SIREN_RUN"
"""Tells which run a process belongs to, whoever its parent is."""
_KEPT_ERRORS = 4_000
"""Bytes of what a program writes to its standard error, the last ones."""
_CLOSING = 2.0
"""Seconds in which what was written to a pipe arrives once nobody holds it any more."""
_WATCH = r"""
read -r done && exit
cd /proc && for round in 1 2 3; do
  for process in [0-9]*; do
    tr '\0' '\n' <"$process/environ" | grep -qxF "$1" && kill -9 "$process"
  done
done
rm -rf -- "$2"
"""
"""A shell that kills the processes of a run if its input ends without a word."""


class ProgramError(RuntimeError):
    """A program did not do what was asked of it; the message says what it did."""


class Program(asyncio.SubprocessProtocol):
    """A program that runs; ``running`` starts and ends one."""

    def __init__(self, name: str, token: str, most: int | None) -> None:
        self.name, self.token = name, token
        self._most = most
        self._transport: asyncio.SubprocessTransport
        self._written = 0
        self._output = bytearray()
        self._errors = bytearray()
        self._changed = asyncio.Event()
        self._exited = asyncio.Event()
        self._closed: dict[int, asyncio.Event] = {1: asyncio.Event(), 2: asyncio.Event()}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2 or self._most is None:
            self._errors += data
            del self._errors[:-_KEPT_ERRORS]
            return
        self._written += len(data)
        if self._written <= self._most:
            self._output += data
        else:
            self._kill_group()
        self._changed.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd in self._closed:
            self._closed[fd].set()
        self._changed.set()

    def process_exited(self) -> None:
        self._exited.set()
        self._changed.set()

    def write(self, data: bytes) -> None:
        """Write to its standard input; what it does not read is lost."""
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(data)

    def end_input(self) -> None:
        """Close its standard input once all is written."""
        if (pipe := self._transport.get_pipe_transport(0)) is not None:
            pipe.close()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield what it prints, line by line, until it ends. Raises ``ProgramError``."""
        while True:
            self._changed.clear()
            self._check_output()
            while (end := self._output.find(b"\n")) >= 0:
                line = bytes(self._output[:end])
                del self._output[: end + 1]
                yield line
            if self._exited.is_set():
                await self._kill_and_drain()
                self._check_output()
                for line in bytes(self._output).splitlines():
                    yield line
                return
            await self._changed.wait()

    async def output(self) -> bytes:
        """Return all that it prints until it ends. Raises ``ProgramError``, also if it fails."""
        await self._exited.wait()
        await self._kill_and_drain()
        self._check_output()
        self.check_exit()
        return bytes(self._output)

    def check_exit(self) -> None:
        """Raise ``ProgramError`` if it ended with an error."""
        code = self._transport.get_returncode()
        if code is None or code == 0:
            return
        how = f"exited with {code}" if code > 0 else f"was killed by {_signal(-code)}"
        raise ProgramError(f"{self.name} {how}{self.errors}")

    @property
    def errors(self) -> str:
        """The last words of its standard error, to stand at the end of a message."""
        text = self._errors.decode(errors="replace").strip()
        return f": {text}" if text else ""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._exited.is_set()

    async def wait(self, seconds: float) -> bool:
        """Wait until it ends; return whether it did within ``seconds``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), seconds)
        return self._exited.is_set()

    async def aclose(self) -> None:
        """Kill it with all that it started, wherever that went, and free its pipes."""
        self._kill_group()
        await self._exited.wait()
        await self._kill_and_drain()
        self._transport.close()

    def _check_output(self) -> None:
        if self._most is not None and self._written > self._most:
            raise ProgramError(
                f"{self.name} printed more than {self._most:,} bytes (agent.config.max_output)"
            )

    def _kill_group(self) -> None:
        # Its processes may have ended, or belong to somebody else by now.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)

    async def _kill_and_drain(self) -> None:
        """Kill the processes that it left behind, which may hold its pipes, and read the rest."""
        self._kill_group()
        await in_thread(lambda: kill_strays(self.token))
        for closed in self._closed.values():
            with suppress(TimeoutError):
                await asyncio.wait_for(closed.wait(), _CLOSING)


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    name: str,
    kind: str,
    environment: Mapping[str, str],
    most: int | None,
) -> AsyncIterator[Program]:
    """Start ``command`` in an empty folder and yield it; kill it with all that it started on exit.

    If this process is killed before, they are killed too. The folder, whose name tells the
    ``kind``, goes with them. It has the environment of this process, with ``environment`` in
    addition, and may print ``most`` bytes; with ``None`` nobody reads what it prints, which counts
    as its standard error. Raises ``ProgramError`` where it cannot be started.
    """
    token = token_hex(16)
    scratch = TemporaryDirectory(prefix=f"siren-{kind}-", ignore_cleanup_errors=True)
    folder = Path(scratch.name)
    try:
        async with (
            _watched(token, folder),
            _started(command, name, folder, environment, most, token) as program,
        ):
            yield program
    finally:
        await undisturbed(in_thread(scratch.cleanup))


@asynccontextmanager
async def _started(
    command: Sequence[str],
    name: str,
    folder: Path,
    environment: Mapping[str, str],
    most: int | None,
    token: str,
) -> AsyncIterator[Program]:
    loop = asyncio.get_running_loop()
    started = loop.subprocess_exec(
        lambda: Program(name, token, most),
        *command,
        cwd=folder,
        env={**os.environ, **environment, RUN_VARIABLE: token},
        start_new_session=True,
    )
    # A cancellation in the middle would leave a process that nobody knows.
    starting = asyncio.ensure_future(started)
    try:
        _, program = await undisturbed(starting)
    except (OSError, ValueError) as error:
        raise ProgramError(f"{name} cannot be started: {error}") from error
    try:
        yield program
    finally:
        await undisturbed(program.aclose())


@asynccontextmanager
async def _watched(token: str, folder: Path) -> AsyncIterator[None]:
    """Have a shell kill the processes of a run if this process is gone before they are.

    It removes the run's folder, too. Nobody does where there is no shell.
    """
    starting = asyncio.create_subprocess_exec(
        *("sh", "-c", _WATCH, "sh", f"{RUN_VARIABLE}={token}", str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        shell = await undisturbed(starting)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        await undisturbed(shell.communicate(b"done\n"))


def kill_strays(token: str) -> None:
    """Kill the processes of a run that left its process group.

    They are known by their environment, which they inherit. Where there is no ``/proc``, nobody
    can find them.
    """
    wanted = f"{RUN_VARIABLE}={token}".encode()
    for pid in _processes():
        try:
            found = wanted in Path("/proc", pid, "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or belongs to somebody else
        if found:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _processes() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdecimal()]
    except FileNotFoundError:
        return []


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
