"""Connections of the server, of which idle ones give way before descriptors run out."""

from __future__ import annotations

import asyncio
import resource

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_MOST = 1_000


def most_connections() -> int:
    """Return how many connections a server keeps: at most half of the descriptors there may be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(_MOST, soft // 2)


class Connections(ServerState):
    """All connections of a server, the one that was used least recently first."""

    def __init__(self, most: int | None = None) -> None:
        """``most`` is the number of connections from which on idle ones are closed."""
        super().__init__()
        self._most = most_connections() if most is None else most
        self._order: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._order)

    def used(self, connection: Connection) -> None:
        """Take notice that ``connection`` is new, or carries a request."""
        self._order.pop(connection, None)
        self._order[connection] = None
        if len(self._order) > self._most:
            # The newest gives way if all others are at work.
            idle = (one for one in self._order if one.idle and one is not connection)
            next(idle, connection).drop()

    def lost(self, connection: Connection) -> None:
        """Take notice that ``connection`` has ended."""
        self._order.pop(connection, None)

    def close(self) -> None:
        """Close all."""
        for connection in tuple(self._order):
            connection.drop()

    def close_unused(self, clients: set[tuple[str, int]], since: float) -> None:
        """Close the connections of ``clients`` that have carried nothing ``since`` then.

        ``since`` is a time of the event loop.
        """
        for connection in tuple(self._order):
            if connection.client in clients and connection.idle and connection.used_at <= since:
                connection.drop()


class Connection(H11Protocol):
    """One connection. Nothing of it is logged, for its requests name the token of a run."""

    def __init__(self, config: Config, connections: Connections) -> None:
        super().__init__(config, connections, {})
        self.access_log = False
        self.used_at = self.loop.time()
        self._all = connections

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        self._all.used(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self.used_at = self.loop.time()
        self._all.used(self)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._all.lost(self)
        super().connection_lost(exc)

    def drop(self) -> None:
        """End the connection; what has been answered is still sent."""
        self._all.lost(self)
        self.transport.close()
