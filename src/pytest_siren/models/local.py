"""``local:NAME``: a real language model in this process, by llama.cpp."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings

from pytest_siren.evaluation.components import Component
from pytest_siren.evaluation.models import UNNAMED, ModelKind, RunContext, Unknown
from pytest_siren.models.llamacpp import LlamaServer
from pytest_siren.models.loops import ModelPerLoop
from pytest_siren.models.weights import find, locate, pull

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
    """Starts llama.cpp when the first run needs it, once per process.

    ``bind`` raises ``WeightsMissingError`` or ``ImportError``, which say what to do.
    """

    kind = ModelKind.MODEL
    spoken_name = UNNAMED

    def __init__(self, name: str) -> None:
        self.id = self.label = f"local:{name}"
        self._name = name
        self._server: LlamaServer | None = None
        self._inherited: list[LlamaServer] = []
        self._starting = threading.Lock()
        self._models = ModelPerLoop(self._connect)

    async def bind(self, run: RunContext) -> Model:
        return await self._models.get()

    def unknown(self, run: RunContext) -> Unknown:
        """A model gives both scores."""
        return Unknown()

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch the weights, unless they are there. Raises ``PullError``."""
        pull(self._name, progress)

    async def aclose(self) -> None:
        """Stop the server and free the model's memory."""
        # The connections go first: llama.cpp does not stop while it owes somebody an answer.
        await self._models.aclose()
        self._server = None

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Model]:
        from httpx2 import AsyncClient, Limits

        server = self._running()
        # Proxies are for the world outside. A request waits for its turn however long others take.
        # A new connection on the loopback costs nothing; an idle one would outlive its loop.
        async with AsyncClient(
            trust_env=False, timeout=None, limits=Limits(max_keepalive_connections=0)
        ) as client:
            provider = OpenAICompatibleProvider(
                "local", base_url=server.url, api_key=server.key, http_client=client
            )
            yield OpenAIChatModel(self._name, provider=provider, settings=_SETTINGS)

    def _running(self) -> LlamaServer:
        with self._starting:
            if self._server is not None and self._server.process != os.getpid():
                # A fork has no threads of its parent, and llama.cpp would wait for them to end.
                self._inherited.append(self._server)
                self._server = None
            if self._server is None:
                self._server = LlamaServer(self._name, locate(self._name))
            return self._server


def _build(config: LocalConfig, base: Path) -> LocalSource:
    return LocalSource(config.argument)


component = Component(LocalConfig, _build)
