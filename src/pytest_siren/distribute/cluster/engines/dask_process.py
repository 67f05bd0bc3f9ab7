"""Speaks with Dask for an engine: ``python -m`` this FOLDER [ADDRESS], a line of JSON a request.

Without an address it starts a cluster on this machine, which ends with this process: when the
standard input is closed. What Dask executes is in this module, so that Dask sends its code and
workers need not have this package.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster, Scheduler

_CONNECT = 10.0
"""Seconds that a scheduler has to answer."""
_ACCEPT = 20.0
"""Seconds that a scheduler has to take notice of tasks."""
_EQUAL = ("python", "distributed")
"""Of what a cluster must have the same version, or it cannot read what it is sent."""


def execute(request: str) -> None:
    """Start the process of an element and wait for its end, in a thread of a worker.

    Dask starts a task again when its worker has died; what has been started before is left alone,
    for other elements have taken over its runs. Raises ``OSError`` where nothing can be started,
    and ``RuntimeError`` where what was started has left no result.
    """
    import subprocess

    from distributed import get_worker

    path, worker = Path(request), get_worker()
    try:
        os.symlink(worker.id, path.with_suffix(".worker"))
    except FileExistsError:
        return
    cancelled = path.with_suffix(".cancelled")
    try:
        given = json.loads(path.read_text())
    except FileNotFoundError:
        if cancelled.exists():
            return
        raise
    # What is the worker's own affair, such as its share of the GPUs.
    own = {name: os.environ[name] for name in given["own"] if name in os.environ}
    with open(given["log"], "ab") as log:
        process = subprocess.Popen(
            given["command"],
            cwd=given["cwd"],
            env={**given["environment"], **own},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # It holds the environment, with whatever keys are in it.
    path.unlink(missing_ok=True)
    asked = False
    while process.poll() is None:
        leaving = worker.status.name.startswith("closing")
        if not asked and (leaving or cancelled.exists()):
            asked = True
            process.terminate()
        time.sleep(0.2)
    process.communicate()
    if process.returncode:
        lines = Path(given["log"]).read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"exit code {process.returncode}: {''.join(lines[-1:])}")


def look(keys: Sequence[str], dask_scheduler: Scheduler | None = None) -> dict[str, Any]:
    """Return which of the tasks ``keys`` the scheduler knows, and the ids of its workers."""
    assert dask_scheduler is not None
    return {
        "known": [key for key in keys if key in dask_scheduler.tasks],
        "workers": [worker.server_id for worker in dask_scheduler.workers.values()],
    }


class DaskError(Exception):
    """Dask does not answer, or cannot be used; ``gone`` if it will never answer again."""

    def __init__(self, text: str, gone: bool = False) -> None:
        super().__init__(text)
        self.gone = gone


@dataclass
class Dask:
    """A scheduler, and the tasks that this process has given to it."""

    address: str
    """Empty for a cluster that is to be started."""
    _cluster: LocalCluster | None = None
    _client: Client | None = None
    _futures: dict[str, Future[None]] = field(default_factory=dict)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what ``request`` asks for. Raises ``DaskError``."""
        asked, what = request["asked"], request["keys"]
        try:
            match asked:
                case "submit":
                    return self._submit(what, request["requests"], request["workers"])
                case "look":
                    return self._look(what)
            return self._cancel(what)
        except DaskError:
            self._disconnect()
            raise
        # What Dask raises differs by its version and by where a connection breaks.
        except Exception as error:
            self._disconnect()
            raise DaskError(_words(error)) from error

    def close(self) -> None:
        """Let go of the scheduler, or end the cluster that was started."""
        self._disconnect()
        if self._cluster is not None:
            self._cluster.close(timeout=5)

    def _submit(self, keys: Sequence[str], requests: Sequence[str], workers: int) -> dict[str, Any]:
        from distributed import fire_and_forget

        if not self.address:
            self._start()
        client = self._connected()
        if self._cluster is not None and workers > len(self._cluster.worker_spec):
            self._cluster.scale(workers)
        for key, request in zip(keys, requests, strict=True):
            self._futures[key] = client.submit(execute, request, key=key, pure=False, retries=0)
        # Tasks that nobody waits for would be forgotten when this process ends.
        fire_and_forget([self._futures[key] for key in keys])
        until = time.monotonic() + _ACCEPT
        while set(keys) - set(client.run_on_scheduler(look, keys)["known"]):
            if all(self._futures[key].done() for key in keys):
                break
            if time.monotonic() > until:
                raise DaskError(f"the scheduler did not accept the tasks in {_ACCEPT:g} seconds")
            time.sleep(0.05)
        return {"address": self.address}

    def _look(self, keys: Sequence[str]) -> dict[str, Any]:
        found = self._connected().run_on_scheduler(look, keys)
        failed = (key for key in keys if key in self._futures)
        errors = {
            key: _words(self._futures[key].exception())
            for key in failed
            if self._futures[key].status == "error"
        }
        return {**found, "errors": errors}

    def _cancel(self, keys: Iterable[str]) -> dict[str, Any]:
        from distributed import Future

        client = self._connected()
        futures = [self._futures.pop(key, None) or Future(key, client) for key in keys]
        client.cancel(futures, force=True)
        return {}

    def _start(self) -> None:
        from distributed import LocalCluster

        self._cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            # Runs are in processes of their own, which Dask does not count.
            memory_limit=0,
        )
        self.address = self._cluster.scheduler_address

    def _connected(self) -> Client:
        from distributed import Client

        if self._client is not None and self._client.status != "running":
            self._disconnect()
        if self._client is None:
            if (refusal := _refusal(self.address)) is not None:
                raise DaskError(f"nothing answers there: {refusal}", gone=True)
            # Before there is a client, which fails in any way where versions differ.
            if found := differing(asyncio.run(_versions_at(self.address))):
                raise DaskError(f"{found}: start it in the environment of this session")
            self._client = Client(self.address, timeout=_CONNECT, set_as_default=False)
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._futures.clear()
        if client is not None:
            with suppress(OSError, TimeoutError, RuntimeError):
                client.close(timeout=2)


def _refusal(address: str) -> str | None:
    """Return why nothing listens at ``address``; ``None`` if something may.

    Dask itself goes on trying until its time is over.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        return None
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT).close()
    except (ConnectionRefusedError, socket.gaierror) as error:
        return error.strerror or str(error)
    except OSError:
        return None
    return None


async def _versions_at(address: str) -> dict[str, Any]:
    """Return the versions of packages here, at the scheduler, and at its workers."""
    from distributed import Security
    from distributed.core import rpc
    from distributed.versions import get_versions

    arguments = Security().get_connection_args("client")
    async with rpc(address, connection_args=arguments, timeout=_CONNECT) as scheduler:
        return {
            "client": get_versions(),
            "scheduler": await scheduler.versions(),
            "workers": await scheduler.broadcast(msg={"op": "versions"}),
        }


def differing(versions: Mapping[str, Any]) -> str | None:
    """Return which versions of the cluster are not those of this process."""
    here = _versions(versions["client"])
    others = {"its scheduler": versions["scheduler"]}
    others.update((f"its worker {one}", found) for one, found in versions["workers"].items())
    for who, found in others.items():
        there = _versions(found)
        for package in _EQUAL:
            if there[package] != here[package]:
                return (
                    f"{who} has {package} {there[package]}, and this session has "
                    f"{package} {here[package]}"
                )
    return None


def _versions(found: Mapping[str, Any]) -> dict[str, str]:
    packages = dict(found["packages"])
    # Of Python 3.12.4, 3.12 decides on what can be read.
    packages["python"] = ".".join(str(packages["python"]).split(".")[:2])
    return packages


def _words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def main(argv: Sequence[str]) -> None:
    """Answer requests until there are no more."""
    # Whatever else writes to the standard output must not come between.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    dask = Dask("".join(argv))
    try:
        for line in sys.stdin:
            try:
                answer = dask.answer(json.loads(line))
            except DaskError as error:
                answer = {"error": str(error), "gone": error.gone}
            answers.write(f"{json.dumps(answer)}\n")
            answers.flush()
    finally:
        dask.close()


if __name__ == "__main__":
    main(sys.argv[1:])
