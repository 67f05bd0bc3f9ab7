"""Models behind an API: every model string that pydantic-ai knows."""

from __future__ import annotations

from contextlib import AsyncExitStack

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from pytest_siren.evaluation.models import ModelKind, RunContext, Unknown
from pytest_siren.models.names import spoken_name


class ModelNameError(ValueError):
    """pydantic-ai does not know the model, or lacks what it needs to reach it."""


class ApiModelSource:
    """One model object for all runs of this process, so that connections are used again."""

    kind = ModelKind.MODEL

    def __init__(self, name: str) -> None:
        self.id = self.label = name
        self.spoken_name = spoken_name(name)

        self._model: Model | None = None
        self._resources = AsyncExitStack()

    async def bind(self, run: RunContext) -> Model:
        if self._model is None:
            self._model = _infer(self.id)
            await self._resources.enter_async_context(self._model)
        return self._model

    async def aclose(self) -> None:
        """Close the connections."""
        await self._resources.aclose()

    def unknown(self, run: RunContext) -> Unknown:
        """A model gives both scores."""
        return Unknown()


def _infer(name: str) -> Model:
    try:
        return infer_model(name)
    except UserError as error:
        message = " ".join(str(error).split())
        raise ModelNameError(f"model {name!r}: {message}") from error
