"""pydantic-ai's models on HTTP connections of ours, where a provider takes them."""

from __future__ import annotations

import inspect
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any

import aiohttp
import httpx2
from httpx_aiohttp.httpx2 import AiohttpTransport
from pydantic_ai.models import Model, get_user_agent, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

from pytest_siren.models.transport.sequencing import SequencedTransport
from pytest_siren.models.wire.exchange import Answers, remember_tools

_TIMEOUT = httpx2.Timeout(600.0, connect=30.0)
"""pydantic-ai's, with more time for a connection: many are opened at once."""
_IDLE = 15.0
"""Seconds after which a connection that nobody needed is closed."""
_HEADERS = 2**20
"""Bytes of one header at most. Gateways write much of what they know into theirs."""


@asynccontextmanager
async def opened(
    name: str, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[tuple[Model, SequencedTransport | None]]:
    """Open pydantic-ai's model ``name``, with what its requests go through.

    That is over ``transport``, or else over ``connections()``; ``None`` for a provider that takes
    no client of ours. Raises what pydantic-ai raises: ``UserError``, ``ImportError``.
    """
    sequenced = SequencedTransport(Answers(transport or connections()))
    client = httpx2.AsyncClient(
        transport=sequenced, timeout=_TIMEOUT, headers={"User-Agent": get_user_agent()}
    )
    taken = False

    def provider(provider_name: str) -> Provider[Any]:
        nonlocal taken
        if not takes_httpx2(provider_name):
            return infer_provider(provider_name)
        taken = True
        made = infer_provider_class(provider_name)(http_client=client)  # type: ignore[call-arg]
        return _with_plain_data(made, client) if provider_name.startswith("openai") else made

    async with client:
        model = infer_model(name, provider_factory=provider)
        remember_tools(model)
        async with model:
            yield model, sequenced if taken else None


def _with_plain_data(provider: Provider[Any], http_client: httpx2.AsyncClient) -> Provider[Any]:
    """Return OpenAI's provider with a client that does not rewrite what can be sent as it is."""
    from pydantic_ai.providers.openai import OpenAIProvider

    from pytest_siren.models.transport.openai_client import PlainDataClient

    if type(provider) is not OpenAIProvider:
        return provider
    return OpenAIProvider(openai_client=PlainDataClient.like(provider.client, http_client))


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


def connections() -> httpx2.AsyncBaseTransport:
    """Return a transport that keeps a connection for every request in flight.

    It uses free ones again, and the proxies of the environment. It raises errors of aiohttp's
    beside httpx's: see ``wire.errors.raise_as_httpx``.
    """
    tls = _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    proxies = urllib.request.getproxies()
    return ByProxy(proxies, tls) if proxies.keys() - {"no"} else _over_aiohttp(tls)


@lru_cache
def _tls(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return what knows the certificates that these variables name: to read them takes 20 ms."""
    return httpx2.create_ssl_context()


class ByProxy(httpx2.AsyncBaseTransport):
    """Sends each request through the proxy for its address, if there is one.

    ``proxies`` are those of ``urllib.request.getproxies``, by scheme.
    """

    def __init__(self, proxies: Mapping[str, str], tls: ssl.SSLContext) -> None:
        self._proxies = proxies
        self._tls = tls
        self._transports: dict[str | None, httpx2.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        proxy = self._proxy(request.url)
        if proxy not in self._transports:
            self._transports[proxy] = self._over(proxy)
        return await self._transports[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()

    def _proxy(self, url: httpx2.URL) -> str | None:
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(url.host):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _over(self, proxy: str | None) -> httpx2.AsyncBaseTransport:
        if proxy is not None and proxy.startswith("socks"):
            # aiohttp knows no such proxies.
            limits = httpx2.Limits(max_connections=None, keepalive_expiry=_IDLE)
            return httpx2.AsyncHTTPTransport(verify=self._tls, limits=limits, proxy=proxy)
        return _over_aiohttp(self._tls, httpx2.Proxy(proxy) if proxy is not None else None)


def _over_aiohttp(tls: ssl.SSLContext, proxy: httpx2.Proxy | None = None) -> AiohttpTransport:
    return AiohttpTransport(verify=tls, proxy=proxy, client=partial(_session, tls))


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE, ssl=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_HEADERS,
        max_field_size=_HEADERS,
        max_headers=_HEADERS // 64,
    )
