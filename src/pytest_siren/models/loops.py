"""One model object per event loop, for connections belong to the loop that opened them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from pydantic_ai.models import Model

Opening = AbstractAsyncContextManager[Model]


class ModelPerLoop:
    """Keeps a model open on each event loop, so that its connections are used again."""

    def __init__(self, make: Callable[[], Opening]) -> None:
        self._make = make
        self._open: dict[asyncio.AbstractEventLoop, tuple[Opening, Model]] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    async def get(self) -> Model:
        """Return the running loop's model, opening it if it is new. Raises what that raises."""
        loop = asyncio.get_running_loop()
        made = self._open.get(loop)
        if made is None:
            made = await self._made(loop)
        return made[1]

    async def _made(self, loop: asyncio.AbstractEventLoop) -> tuple[Opening, Model]:
        self._open = {at: made for at, made in self._open.items() if not at.is_closed()}
        self._opening = {at: lock for at, lock in self._opening.items() if not at.is_closed()}
        # All runs of a session may ask for it at once.
        async with self._opening.setdefault(loop, asyncio.Lock()):
            if loop not in self._open:
                opening = self._make()
                self._open[loop] = (opening, await opening.__aenter__())
        return self._open[loop]

    async def aclose(self) -> None:
        """Close the model of the running loop, and forget the others."""
        mine = self._open.pop(asyncio.get_running_loop(), None)
        self._open.clear()
        if mine is not None:
            await mine[0].__aexit__(None, None, None)
