"""Processes for sessions that begin with everything imported.

Most of what a short session costs are imports. A server imports once and forks itself for each
process: one with a folder, an environment, signals, threads and an end of its own. The workers of
xdist are forked, too: sessions take ``Forks.python`` for the interpreter, which asks the server.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from runpy import run_module
from select import select
from types import ModuleType

import pytest

from tests.acceptance.installed import read_once

WITHOUT = " ".join(
    f"-p no:{plugin}"
    for plugin in (
        *("langsmith_plugin", "hypothesispytest", "timeout", "asyncio", "flaky", "html"),
        *("html_fixtures", "metadata", "pytest_cov", "pytest-retry", "randomly", "repeat"),
        *("rerunfailures", "sugar"),
    )
)
"""Plugins that tests of them name again, which the server therefore does not import."""
_ROOT = Path(__file__).parents[2]
_SERVE = "from tests.acceptance.forks import serve; serve({path!r}, {python!r}, {lifeline})()"
_MOST_BYTES = 1 << 17
_READ_AT_THE_START = ("PYTHON", "LANG", "LC_", "TZ", "LD_")
"""What an interpreter reads when it starts; a fork cannot."""
_READ_BY_FORKS = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")

_PYTHON = """\
#!{python} -IS
import json
import os
import signal
import socket
import sys

args = sys.argv[1:]
if args[:1] not in (["-m"], ["-u"]):
    os.execv({python!r}, [{python!r}, *args])
# A fork is in the same group; what is sent to all of it is for the fork to heed.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
request = {{"args": args, "folder": os.getcwd(), "environ": dict(os.environ)}}
request["group"], request["parent"] = os.getpgrp(), os.getppid()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect({path!r})
    socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
    for fd in (0, 1):
        os.close(fd)
    connection.recv(100)
    code = int(connection.recv(100))
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""
"""Stands for the interpreter: an executable whose process is one of the server's."""


def _read_at_the_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_READ_AT_THE_START) and name not in _READ_BY_FORKS
    }


class Process:
    """A process of the server's, with what ``subprocess.Popen`` calls the same."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = int(connection.recv(_MOST_BYTES))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, below 0 where a signal ended the process.

        Raises ``TimeoutExpired`` where it takes more than ``timeout`` seconds.
        """
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._connection.recv(_MOST_BYTES))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from None
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """The server of the tests of one process; it starts when a process is wanted."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "socket")
        self._python = folder / "python"
        self._environ = _read_at_the_start(os.environ)
        self._lifeline: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def can_start(self, environ: Mapping[str, str]) -> bool:
        """Return whether a fork is what a new interpreter with these variables would be."""
        return _read_at_the_start(environ) == self._environ

    def start(
        self,
        args: Sequence[str],
        folder: Path,
        *,
        output: int,
        errors: int,
        given: int | None = None,
        group: int | None = None,
    ) -> Process:
        """Start what ``python ARGS`` would in ``folder``; without ``given`` it can read nothing.

        ``group`` is that of its processes, which may be sent signals; 0 is a new one.
        """
        if self._server is None:
            self._start_server()
        request = {
            "args": [str(arg) for arg in args],
            "folder": str(folder),
            "environ": dict(os.environ),
            "group": group,
        }
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._path)
        with open(os.devnull) as nothing:
            fds = [nothing.fileno() if given is None else given, output, errors]
            socket.send_fds(connection, [json.dumps(request).encode()], fds)
        return Process(connection)

    def _start_server(self) -> None:
        self._python.write_text(_PYTHON.format(python=sys.executable, path=self._path))
        self._python.chmod(0o700)
        self._lifeline, theirs = socket.socketpair()
        code = _SERVE.format(path=self._path, python=str(self._python), lifeline=theirs.fileno())
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=_ROOT,
                env={**os.environ, "PYTEST_ADDOPTS": WITHOUT},
                pass_fds=[theirs.fileno()],
            )
        if not self._lifeline.recv(1):
            raise ChildProcessError(f"the server of forks ended with {self._server.wait()}")

    def close(self) -> None:
        if self._lifeline is not None and self._server is not None:
            self._lifeline.close()
            self._server.wait()


def serve(path: str, python: str, lifeline: int) -> Callable[[], object]:
    """Fork for each request until ``lifeline`` ends.

    Returns what the process is to call outermost, so that nothing of the server is below it.
    """
    read_once()
    # Plugins are imported by a session, as the assertions in them are rewritten.
    with chdir(Path(path).parent), redirect_stdout(StringIO()):
        pytest.main(["-qq"])
    from tests.acceptance import inside  # noqa: F401 - it imports what sessions import

    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (
        socket.socket(fileno=lifeline) as owner,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        closing(_Forked()) as forked,
    ):
        listener.bind(path)
        listener.listen()
        owner.send(b"!")
        while True:
            ready = forked.wait_for(owner, listener)
            if owner in ready:
                return int
            if listener in ready:
                connection, _ = listener.accept()
                message, fds, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
                if not message:
                    connection.close()
                    continue
                if not (pid := os.fork()):
                    connection.close()
                    break
                forked.add(pid, connection)
                for fd in fds:
                    os.close(fd)
    return partial(_become, fds, python, **json.loads(message))


class _Forked:
    """The processes that were forked, and the connections of those who wait for them."""

    def __init__(self) -> None:
        self._clients: dict[int, socket.socket] = {}
        self._ended, ends = os.pipe()
        os.set_blocking(ends, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ends)
        self._ends = ends

    def add(self, pid: int, client: socket.socket) -> None:
        self._clients[pid] = client
        client.send(str(pid).encode())

    def wait_for(self, *others: socket.socket) -> Sequence[object]:
        """Attend to processes and clients until one of ``others`` can be read; return those."""
        while True:
            ready, _, _ = select([*others, self._ended, *self._clients.values()], [], [])
            if found := [one for one in ready if one in others]:
                return found
            for pid in [pid for pid, client in self._clients.items() if client in ready]:
                os.kill(pid, signal.SIGKILL)  # Who waited for it is gone.
                self._clients.pop(pid).close()
            if self._ended in ready:
                os.read(self._ended, _MOST_BYTES)
                self._reap()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if client := self._clients.pop(ended[0], None):
                    with client, suppress(BrokenPipeError):
                        client.send(str(os.waitstatus_to_exitcode(ended[1])).encode())

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self._ended, self._ends):
            os.close(fd)
        for client in self._clients.values():
            client.close()


def _become(
    fds: Sequence[int],
    python: str,
    args: Sequence[str],
    folder: str,
    environ: Mapping[str, str],
    group: int | None,
    parent: int | None = None,
) -> None:
    """Do what ``python ARGS`` does: ``-m MODULE ...``, or the ``-u ... -c CODE`` of workers."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for place, fd in enumerate(fds):
        os.dup2(fd, place)
        os.close(fd)
    if parent is not None:
        os.getppid = lambda: parent  # Of who wanted the process, as a worker's controller.
    in_group = group not in (None, os.getpgrp())
    if in_group:
        os.setpgid(0, group or 0)
    sys.executable = python
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    tempfile.tempdir = None  # It is that of the server's environment.
    gc.unfreeze = int  # To look at what the server imported would be to copy it.
    sys.dont_write_bytecode = "-B" in args[:2] or bool(environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[1:1] = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    with nullcontext() if in_group else _leaving_at_once():
        if args[0] == "-m":
            sys.path[0] = folder
            sys.argv[1:] = args[2:]
            run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = ["-c"]
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(args[-1], vars(main))


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """End the process as an interpreter ends, but for freeing all that the server has imported.

    That takes twice as long as a short session: nothing of it is shared with the server any more.
    Processes with a group of their own, which are those of tests of ends, free it.
    """
    code = 0
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.code, int | None):
            raise
        code = error.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # It is closed.
            stream.flush()
    os._exit(code & 0xFF)
