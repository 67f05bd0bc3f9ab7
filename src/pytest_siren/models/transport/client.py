"""pydantic-ai's models on HTTP connections of ours, where a provider takes them."""

from __future__ import annotations

import asyncio
import inspect
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any

import aiohttp
import httpx2
from pydantic_ai.models import Model, get_user_agent, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from yarl import URL

from pytest_siren.models.transport.sequencing import EXCHANGE, Exchange, Passing
from pytest_siren.models.wire.exchange import Answers

_IDLE = 15.0
"""Seconds after which a connection that nobody needed is closed."""
_HEADERS = 2**20
"""Bytes of one header at most. Gateways write much of what they know into theirs."""
_TRANSLATIONS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientError, httpx2.ReadError),
    (OSError, httpx2.ReadError),
)
"""The first that fits counts."""


class Connections(httpx2.AsyncBaseTransport):
    """Keeps a connection for every request in flight, and uses those that are free again.

    Proxies are taken from the environment. Raises httpx's ``TransportError`` and its subclasses.
    """

    def __init__(self) -> None:
        self._by_scheme: dict[str, aiohttp.ClientSession] = {}
        self._proxies = urllib.request.getproxies()
        self._by_socks: dict[str, httpx2.AsyncHTTPTransport] = {}
        self._passing = Passing()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = EXCHANGE.get()
        if exchange is not None:
            # What has a connection has left by then. Others need not wait while one is made.
            asyncio.get_running_loop().call_soon(self._sent, exchange)
        response = await self._send(request)
        if exchange is not None:
            exchange.headers = response.headers
            await self._passing.wait()
        return response

    def _sent(self, exchange: Exchange) -> None:
        exchange.sent()
        self._passing.next()

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._by_socks.values():
            await transport.aclose()
        for session in self._by_scheme.values():
            await session.close()

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        proxy = self._proxy(request.url) if self._proxies else None
        if proxy is not None and proxy.startswith("socks"):
            return await self._over_socks(proxy).handle_async_request(request)
        session = self._by_scheme.get(request.url.scheme)
        if session is None:
            session = self._by_scheme[request.url.scheme] = _session(request.url.scheme)
        with _translated():
            response = await session.request(
                request.method,
                _url(str(request.url)),
                headers=_headers(request),
                data=_body(request),
                proxy=proxy,
                timeout=_timeout(**request.extensions.get("timeout", {})),
                allow_redirects=False,
            )
        return httpx2.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Answer(response),
            request=request,
            extensions={"reason_phrase": (response.reason or "").encode()},
        )

    def _proxy(self, url: httpx2.URL) -> str | None:
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(url.host):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _over_socks(self, proxy: str) -> httpx2.AsyncHTTPTransport:
        # aiohttp knows no such proxies.
        if proxy not in self._by_socks:
            limits = httpx2.Limits(max_connections=None, keepalive_expiry=_IDLE)
            self._by_socks[proxy] = httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy)
        return self._by_socks[proxy]


class _Answer(httpx2.AsyncByteStream):
    """An answer's body."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        # What was read to its end has given its connection back already.
        self._response.close()


def _session(scheme: str) -> aiohttp.ClientSession:
    # It takes long to read the certificates.
    tls = httpx2.create_ssl_context() if scheme == "https" else True
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE, ssl=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=_HEADERS,
        max_field_size=_HEADERS,
        max_headers=_HEADERS // 64,
    )


def _headers(request: httpx2.Request) -> list[tuple[str, str]]:
    # Whether a body is sent in pieces aiohttp decides, and wants to say so itself.
    items = request.headers.multi_items()
    return [item for item in items if item[0].lower() != "transfer-encoding"]


def _body(request: httpx2.Request) -> bytes | httpx2.AsyncByteStream | None:
    try:
        return request.content or None
    except httpx2.RequestNotRead:
        return request.stream  # type: ignore[return-value]


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


@lru_cache(maxsize=16)
def _timeout(
    connect: float | None = None,
    read: float | None = None,
    write: float | None = None,
    pool: float | None = None,
) -> aiohttp.ClientTimeout:
    """Return aiohttp's form of httpx's timeouts, in seconds. It has none for writing."""
    return aiohttp.ClientTimeout(sock_connect=connect, sock_read=read, connect=pool)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise as httpx would."""
    try:
        yield
    except Exception as error:
        for theirs, ours in _TRANSLATIONS:
            if isinstance(error, theirs):
                raise ours(str(error) or type(error).__name__) from error
        raise


_TIMEOUT = httpx2.Timeout(600.0, connect=30.0)
"""pydantic-ai's, with more time for a connection: many are opened at once."""


@asynccontextmanager
async def opened(
    name: str, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[tuple[Model, bool]]:
    """Open pydantic-ai's model ``name``, and tell whether its requests go through ``transport``.

    That is ``Connections`` unless it is given. Raises what pydantic-ai raises: ``UserError``,
    ``ImportError``.
    """
    client = httpx2.AsyncClient(
        transport=Answers(transport or Connections()),
        timeout=_TIMEOUT,
        headers={"User-Agent": get_user_agent()},
    )
    taken = False

    def provider(provider_name: str) -> Provider[Any]:
        nonlocal taken
        if not takes_httpx2(provider_name):
            return infer_provider(provider_name)
        taken = True
        return infer_provider_class(provider_name)(http_client=client)  # type: ignore[call-arg]

    async with client:
        model = infer_model(name, provider_factory=provider)
        async with model:
            yield model, taken


def takes_httpx2(provider: str) -> bool:
    """Tell whether the class of ``provider`` takes an HTTP client, and httpx's successor at that.

    Raises ``ImportError`` when the provider's package is missing.
    """
    if provider.startswith("gateway/"):
        return False
    parameters = inspect.signature(infer_provider_class(provider).__init__).parameters
    if "http_client" not in parameters:
        return False
    kinds = {kind.strip() for kind in str(parameters["http_client"].annotation).split("|")}
    return bool(kinds & {"httpx2.AsyncClient", "AsyncHTTPClient", "_OpenAIHTTPClient"})


def without_own_retries(model: Model) -> None:
    """Turn off the retries of the SDK behind ``model``, so that nothing is sent again twice."""
    client: Any = getattr(model, "client", None)
    if isinstance(getattr(client, "max_retries", None), int):
        client.max_retries = 0
