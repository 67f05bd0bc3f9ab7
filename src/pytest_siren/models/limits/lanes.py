"""An HTTP transport with a connection for every request in flight, and no pool to search.

httpcore's pool looks at all its connections whenever a request begins or ends, which at 64 in
flight is a fifth of a request's cost.
"""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import cached_property

import httpx2

from pytest_siren.models.limits.exchange import EXCHANGE, Exchange

_IDLE = 60.0
"""Seconds after which a lane that nobody needed is closed."""
_LIMITS = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=15.0)

Origin = tuple[str, str, int | None]


class Lane:
    """One connection to one origin."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self.transport = transport
        self.used = False
        self.idle_since = 0.0


class Lanes(httpx2.AsyncBaseTransport):
    """Gives each request the lane that was used last, or a new one when all are in use.

    ``connect`` makes a lane's own transport; without it proxies are taken from the environment.
    """

    def __init__(
        self, connect: Callable[[httpx2.URL], httpx2.AsyncBaseTransport] | None = None
    ) -> None:
        self._connect = connect or _Connector()
        self._free: dict[Origin, deque[Lane]] = {}
        self._all: set[Lane] = set()

    @property
    def size(self) -> int:
        """How many lanes there are, free or in use."""
        return len(self._all)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = EXCHANGE.get()
        free, lane = self._lane(request.url)
        if exchange is not None:
            if lane.used:
                request.stream = _Sending(request.stream, exchange)  # type: ignore[arg-type]
            else:
                # Names are looked up and keys exchanged: others need not wait for that.
                exchange.sent()
        lane.used = True
        try:
            response = await lane.transport.handle_async_request(request)
        except BaseException:
            free.append(lane)
            raise
        if exchange is not None:
            exchange.headers = response.headers
        response.stream = _Returning(response.stream, lane, free)  # type: ignore[arg-type]
        await self._prune(free)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        lanes, self._all = self._all, set()
        self._free.clear()
        for lane in lanes:
            await lane.transport.aclose()

    def _lane(self, url: httpx2.URL) -> tuple[deque[Lane], Lane]:
        origin = (url.scheme, url.host, url.port)
        free = self._free.get(origin)
        if free is None:
            free = self._free[origin] = deque()
        if free:
            return free, free.pop()
        lane = Lane(self._connect(url))
        self._all.add(lane)
        return free, lane

    async def _prune(self, free: deque[Lane]) -> None:
        while free and time.monotonic() - free[0].idle_since > _IDLE:
            lane = free.popleft()
            self._all.discard(lane)
            await lane.transport.aclose()


class _Connector:
    """Makes transports with one connection each, through the proxy of the environment if any."""

    def __init__(self) -> None:
        self._proxies = urllib.request.getproxies()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # All lanes share one: it takes long to read the certificates.
        return httpx2.create_ssl_context()

    def __call__(self, url: httpx2.URL) -> httpx2.AsyncBaseTransport:
        proxy = self._proxy(url)
        plain = url.scheme == "http" and proxy is None
        return httpx2.AsyncHTTPTransport(
            verify=False if plain else self._tls, limits=_LIMITS, proxy=proxy
        )

    def _proxy(self, url: httpx2.URL) -> str | None:
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(url.host):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


class _Sending(httpx2.AsyncByteStream):
    """A request's body, which tells when it has been sent."""

    def __init__(self, body: httpx2.AsyncByteStream, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk
        self._exchange.sent()

    async def aclose(self) -> None:
        await self._body.aclose()


class _Returning(httpx2.AsyncByteStream):
    """An answer's body, which gives its lane back when it is closed."""

    def __init__(self, body: httpx2.AsyncByteStream, lane: Lane, free: deque[Lane]) -> None:
        self._body = body
        self._lane: Lane | None = lane
        self._free = free

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            if self._lane is not None:
                lane, self._lane = self._lane, None
                lane.idle_since = time.monotonic()
                self._free.append(lane)
