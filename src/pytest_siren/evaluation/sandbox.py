"""Places for commands and files of runs, and the parts that work in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pytest_siren.evaluation.tasks import BenignTask


@dataclass(frozen=True)
class ExecResult:
    """What a command that has ended returned and wrote."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def success(self) -> bool:
        return self.returncode == 0


class Sandbox(Protocol):
    """One place: a container, a virtual machine, a folder. Relative paths start from its folder."""

    async def exec(
        self,
        command: Sequence[str],
        *,
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout: float | None = None,
    ) -> ExecResult:
        """Execute ``command`` and wait until it has ended.

        ``input`` goes to its standard input, ``env`` is added to its environment, ``timeout`` is in
        seconds. Raises ``TimeoutError``, and ``OSError`` for what cannot be started.
        """
        ...

    async def read_file(self, path: str) -> bytes:
        """Return what a file holds. Raises ``OSError``."""
        ...

    async def write_file(self, path: str, contents: str | bytes) -> None:
        """Write a file; folders on the way to it are made. Raises ``OSError``."""
        ...


class SandboxManager(Protocol):
    """Opens sandboxes. What it needs once per process belongs into ``warm`` and ``aclose``."""

    def open(self, task: BenignTask) -> AbstractAsyncContextManager[Sandbox]:
        """Yield a new sandbox for ``task``, and free it on exit with all that runs in it."""
        ...


@runtime_checkable
class UsesSandbox(Protocol):
    """An environment or agent that works in sandboxes: its jobs need a ``sandbox_manager``."""

    def with_sandbox(self, sandboxes: SandboxManager) -> Any:
        """Return the part as it works in ``sandboxes``. It takes the place of this one in a job."""
        ...
