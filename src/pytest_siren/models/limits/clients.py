"""pydantic-ai's models on HTTP connections of ours, where a provider takes them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from pydantic_ai.models import Model, get_user_agent, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

from pytest_siren.models.limits.connections import Connections
from pytest_siren.models.wire.transport import Answers

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
