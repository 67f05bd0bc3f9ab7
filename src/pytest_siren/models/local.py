"""``local:NAME``: a real language model in this process, by llama.cpp."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.models import ModelKind, RunContext, Unknown
from pytest_siren.models.names import UNNAMED
from pytest_siren.models.weights import find, locate

if TYPE_CHECKING:
    from xllamacpp import Server

_CONTEXT = 8192
"""Tokens, prompt and answer together; what SmolLM2 was trained with."""
_SETTINGS = ModelSettings(temperature=0.0, seed=0, max_tokens=512)
"""The same question gets the same answer, unless the agent's ``model_settings`` say otherwise."""


class LocalConfig(BaseModel):
    """What stands after ``local:``."""

    model_config = ConfigDict(extra="forbid")

    argument: str

    @field_validator("argument")
    @classmethod
    def _known(cls, value: str) -> str:
        find(value)
        return value


class LocalSource:
    """Starts llama.cpp when the first run needs it, once per process."""

    kind = ModelKind.MODEL
    spoken_name = UNNAMED

    def __init__(self, name: str) -> None:
        self.id = self.label = f"local:{name}"
        self._name = name
        self._model: Model | None = None
        self._starting = asyncio.Lock()
        self._resources = AsyncExitStack()

    async def bind(self, run: RunContext) -> Model:
        if self._model is None:
            # Loading takes most of a second, in which other runs may go on.
            async with self._starting:
                self._model = self._model or await self._open()
        return self._model

    def unknown(self, run: RunContext) -> Unknown:
        """A model gives both scores."""
        return Unknown()

    async def aclose(self) -> None:
        """Stop the server and free the model's memory."""
        self._model = None
        await self._resources.aclose()

    async def _open(self) -> Model:
        """Return a pydantic-ai model that talks to llama.cpp's own server on the loopback.

        Raises ``WeightsMissingError`` or ``ImportError``, which say what to do.
        """
        from httpx2 import AsyncClient

        key = secrets.token_hex()
        server = await asyncio.to_thread(_start, locate(self._name), key)
        # Proxies are for the world outside; a model in this process is not there. A request waits
        # for its turn however long the others take.
        client = AsyncClient(trust_env=False, timeout=None)
        self._resources.callback(_keep, server)
        await self._resources.enter_async_context(client)
        provider = OpenAIProvider(
            base_url=f"{server.listening_address}/v1", api_key=key, http_client=client
        )
        return OpenAIChatModel(self._name, provider=provider, settings=_SETTINGS)


def _keep(server: Server) -> None:
    """Hold ``server`` until the exit stack lets go of it; it stops when nobody holds it."""


def _start(weights: Path, key: str) -> Server:
    try:
        import xllamacpp
    except ImportError as error:
        raise ImportError(
            f"local models need the package xllamacpp ({error}); "
            "install it with: pip install 'pytest-siren[local]'"
        ) from error
    params: Any = xllamacpp.CommonParams()
    params.verbosity = -1
    params.model.path = str(weights)
    params.n_ctx = _CONTEXT
    # One request at a time: a batch of several would make an answer depend on its neighbours.
    params.n_parallel = 1
    threads = min(4, os.cpu_count() or 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    return xllamacpp.Server(params)


def _build(config: LocalConfig, base: Path) -> LocalSource:
    return LocalSource(config.argument)


component = Component(LocalConfig, _build)
