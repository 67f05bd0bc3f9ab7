"""OpenAI's client without the rewriting of what is JSON data already."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx2
from openai import AsyncOpenAI, NotGiven, Omit
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.types.chat import ChatCompletion

from pytest_siren.models.wire.exchange import plain_data_as_given

if TYPE_CHECKING:
    from openai.resources.responses import AsyncResponses


class PlainDataClient(AsyncOpenAI):
    """Sends bodies that are JSON data without rewriting them; else it is as ``AsyncOpenAI``.

    The bytes are the same either way. Streams are left to ``AsyncOpenAI``.
    """

    @classmethod
    def like(cls, client: AsyncOpenAI, http_client: httpx2.AsyncClient) -> PlainDataClient:
        """Return one that sends over ``http_client`` where ``client`` does, and by its key."""
        headers = client.default_headers.items()
        return cls(
            api_key=client.api_key,
            organization=client.organization,
            project=client.project,
            base_url=client.base_url,
            timeout=client.timeout,
            max_retries=client.max_retries,
            default_headers={name: value for name, value in headers if isinstance(value, str)},
            default_query=client.default_query,
            http_client=http_client,
        )

    @cached_property
    def chat(self) -> _Chat:
        return _Chat(self)

    @cached_property
    def responses(self) -> AsyncResponses:
        from openai.resources.responses import AsyncResponses
        from openai.types.responses import Response

        class Responses(AsyncResponses):
            create: Any = plain_data_as_given(
                AsyncResponses.create, "/responses", Response, omitted=(NotGiven, Omit)
            )

        return Responses(self)


class _Chat(AsyncChat):
    @cached_property
    def completions(self) -> _Completions:
        return _Completions(self._client)


class _Completions(AsyncCompletions):
    create: Any = plain_data_as_given(
        AsyncCompletions.create, "/chat/completions", ChatCompletion, omitted=(NotGiven, Omit)
    )
