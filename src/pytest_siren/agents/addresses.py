"""Addresses at which an agent finds the tools and the model of its run."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from pytest_siren.evaluation.models import NoModel
from pytest_siren.evaluation.world import World
from pytest_siren.serving.shared import serve

if TYPE_CHECKING:
    from pytest_siren.serving.served import Served

OF_MODEL = ("base_url", "anthropic_url")
PARTS = ("mcp_url", *OF_MODEL, "api_key", "otlp_url")
"""What addresses and keys are called where an agent asks for them."""
_VARIABLES_OF_MODEL = ("OPENAI_", "ANTHROPIC_", "SIREN_MODEL")


class Addresses:
    """Serves a run as soon as its agent asks for an address, until ``resources`` are freed."""

    def __init__(self, world: World, resources: AsyncExitStack) -> None:
        self._world, self._resources = world, resources
        self._starting = asyncio.Lock()
        self._served: Served | None = None

    async def parts(self) -> dict[str, str]:
        """Return the addresses by the names of ``PARTS``. Raises ``ServingUnavailableError``."""
        served = await self._serve()
        return {
            "mcp_url": served.mcp_url,
            "base_url": served.base_url,
            "anthropic_url": served.anthropic_url,
            "api_key": served.token,
            "otlp_url": served.url,
        }

    async def variables(self) -> dict[str, str]:
        """Return the environment variables of a program, those of the model if there is one.

        Raises ``ServingUnavailableError``.
        """
        variables = (await self._serve()).environment
        if self._world.stage.account.model_id != NoModel.id:
            return variables
        return {
            name: value
            for name, value in variables.items()
            if not name.startswith(_VARIABLES_OF_MODEL)
        }

    async def _serve(self) -> Served:
        async with self._starting:
            if self._served is None:
                self._served = await self._resources.enter_async_context(serve(self._world))
            return self._served
