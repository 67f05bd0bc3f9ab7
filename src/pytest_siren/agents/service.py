"""A service that a session starts for its agent, and stops."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from pytest_siren.agents.programs import Program, ProgramError, running
from pytest_siren.environments.command_line import CommandLine
from pytest_siren.environments.placeholders import fill

_AGAIN = 0.1
"""Seconds after which a service that is not ready is asked again."""


def free_port() -> int:
    """Return a port of the loopback interface at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def started(
    command: CommandLine,
    parts: Mapping[str, str],
    environment: Mapping[str, str],
    ready: Callable[[], Awaitable[str | None]],
    patience: float,
) -> AsyncIterator[Program]:
    """Start ``command`` and yield it once it is ready; kill it with all that it started on exit.

    ``ready`` returns why it is not, or ``None``. Raises ``ProgramError`` where it ends before, or
    is not ready after ``patience`` seconds.
    """
    async with running(
        fill(command.words, parts),
        name=command.name,
        kind="service",
        environment=environment,
        most=None,
    ) as program:
        deadline = time.monotonic() + patience
        while (why := await ready()) is not None:
            if program.ended:
                program.check_exit()
                raise ProgramError(f"{command.name} ended before it was ready{program.errors}")
            if time.monotonic() > deadline:
                raise ProgramError(
                    f"{command.name} was not ready after {patience:g} s: {why}{program.errors}"
                )
            await asyncio.sleep(_AGAIN)
        yield program
