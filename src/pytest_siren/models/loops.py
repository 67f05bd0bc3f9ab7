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

    async def get(self) -> Model:
        """Return the running loop's model, opening it if it is new. Raises what that raises."""
        loop = asyncio.get_running_loop()
        self._open = {at: made for at, made in self._open.items() if not at.is_closed()}
        if loop not in self._open:
            opening = self._make()
            made = (opening, await opening.__aenter__())
            if self._open.setdefault(loop, made) is not made:
                await opening.__aexit__(None, None, None)
        return self._open[loop][1]

    async def aclose(self) -> None:
        """Close the model of the running loop, and forget the others."""
        mine = self._open.pop(asyncio.get_running_loop(), None)
        self._open.clear()
        if mine is not None:
            await mine[0].__aexit__(None, None, None)
