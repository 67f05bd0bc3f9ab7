"""The sandbox ``local``: a temporary folder and processes of this machine. It isolates nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, Field

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.isolation import in_thread
from pytest_siren.evaluation.sandbox import ExecResult
from pytest_siren.evaluation.tasks import BenignTask


class LocalSandboxConfig(BaseModel):
    """Configuration of the sandbox ``local``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    timeout: float = Field(
        default=60.0, gt=0, description="Seconds that a command has unless it is given others"
    )


@dataclass(frozen=True)
class LocalSandbox:
    """A folder. Commands may read and write all that the user of the session may."""

    folder: Path
    timeout: float
    """Seconds."""

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
        """Execute ``command`` with only ``PATH`` and ``HOME`` of the session's environment.

        Raises ``ValueError`` for a ``user``, since it can be no other.
        """
        if user is not None:
            raise ValueError(f"the sandbox 'local' cannot be the user {user!r}")
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL if input is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._path(cwd or "."),
            env={**self._environment(), **(env or {})},
            start_new_session=True,
        )
        given = input.encode() if isinstance(input, str) else input
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                out, err = await process.communicate(given)
        finally:
            # Kill its child processes, too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        assert process.returncode is not None
        stdout, stderr = (data.decode(errors="replace") for data in (out, err))
        return ExecResult(process.returncode, stdout, stderr)

    async def read_file(self, path: str) -> bytes:
        return await in_thread(self._path(path).read_bytes)

    async def write_file(self, path: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        target = self._path(path)

        def write() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

        await in_thread(write)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}

    def _path(self, path: str) -> Path:
        """Return ``path`` in the folder. Raises ``ValueError`` for one that leads out of it."""
        found = (self.folder / path).resolve()
        if not found.is_relative_to(self.folder):
            raise ValueError(f"{path!r} is not in the sandbox")
        return found


class LocalSandboxes:
    """Opens a temporary folder for each state of a run."""

    def __init__(self, config: LocalSandboxConfig) -> None:
        self._timeout = config.timeout

    @asynccontextmanager
    async def open(self, task: BenignTask) -> AsyncIterator[LocalSandbox]:
        with TemporaryDirectory(prefix="siren-sandbox-", ignore_cleanup_errors=True) as folder:
            yield LocalSandbox(Path(folder).resolve(), self._timeout)


component = Component(LocalSandboxConfig, lambda config, folder: LocalSandboxes(config))
