"""The one server of a process, started by the first run that needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytest_siren.evaluation.components import SHARED

_NEEDED = ("mcp", "mcp_types", "starlette", "uvicorn")
"""What the extra ``serve`` brings."""

if TYPE_CHECKING:
    from pytest_siren.evaluation.world import World
    from pytest_siren.serving.served import Served
    from pytest_siren.serving.server import Server


_LABEL = "the server of the runs"


class ServingUnavailableError(ImportError):
    """What serves a run is not installed."""


class SharedServer:
    """Starts the server when it is first asked for, on the event loop of whoever asks."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._server: Server | None = None

    async def get(self) -> Server:
        """Return the server.

        Raises ``OSError`` when no port can be opened, ``ServingUnavailableError``.
        """
        async with self._starting:
            if self._server is None:
                self._server = await _server_class().start()
        return self._server

    async def aclose(self) -> None:
        """Close the server if it was started."""
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()


def _server_class() -> type[Server]:
    """Load a web server and the MCP library, which most sessions do without."""
    try:
        from pytest_siren.serving.server import Server
    except ImportError as error:
        raise _unavailable(error) from error
    return Server


async def shared_server() -> Server | None:
    """Return the server that the runs of the session share; ``None`` outside of one.

    Raises as ``SharedServer.get``.
    """
    shared = SHARED.get()
    if shared is None:
        return None
    return await shared.get(SharedServer, _LABEL).get()


def check_available() -> None:
    """Raise ``ServingUnavailableError`` where no run can be served. Loads nothing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise _unavailable(f"there is no {missing[0]}")


def _unavailable(reason: object) -> ServingUnavailableError:
    return ServingUnavailableError(
        f"a run cannot be served to its agent ({reason}); "
        "install it with: pip install 'pytest-siren[serve]'"
    )


@asynccontextmanager
async def serve(world: World) -> AsyncIterator[Served]:
    """Serve the tools and the model of ``world`` at addresses of its own, within the block.

    Runs of a session share one server. Elsewhere it is started for this block. Raises as
    ``SharedServer.get``.
    """
    if (server := await shared_server()) is not None:
        async with server.serve(world) as served:
            yield served
        return
    own = SharedServer()
    try:
        async with (await own.get()).serve(world) as served:
            yield served
    finally:
        await own.aclose()
