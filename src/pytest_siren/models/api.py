"""Models behind an API: every model string that pydantic-ai knows."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model, known_model_names

from pytest_siren.evaluation.models import ModelKind, RunContext, Unknown
from pytest_siren.models.loops import ModelPerLoop
from pytest_siren.models.names import spoken_name

_NEEDS_NO_PROVIDER = "test"
"""pydantic-ai's ``TestModel``, the one model whose name has no colon."""


class ModelNameError(ValueError):
    """pydantic-ai does not know the model, or lacks what it needs to reach it."""


class ApiModelSource:
    """One model object for all runs of an event loop, so that connections are used again.

    ``bind`` raises ``ModelNameError`` or ``ImportError``, which say what is wrong or missing.
    """

    kind = ModelKind.MODEL

    def __init__(self, name: str, components: Collection[str] = ()) -> None:
        self.id = self.label = name
        self.spoken_name = spoken_name(name)
        self._models = ModelPerLoop(lambda: _infer(name, components))

    async def bind(self, run: RunContext) -> Model:
        return await self._models.get()

    def unknown(self, run: RunContext) -> Unknown:
        """A model gives both scores."""
        return Unknown()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._models.aclose()


def api_model(name: str, components: Collection[str] = ()) -> ApiModelSource:
    """Return the source of pydantic-ai's model ``name``, such as ``openai:gpt-5``.

    Provider, key and package are looked for when the first run needs them. ``components`` are the
    prefixes that lead elsewhere, for the hint in the message of an unknown provider.
    """
    return ApiModelSource(name, components)


def _infer(name: str, components: Collection[str]) -> Model:
    provider, _, model = name.partition(":")
    if name != _NEEDS_NO_PROVIDER and not (model and _is_provider(provider)):
        nearest = _nearest(name, components)
        hint = f" (did you mean {nearest!r}?)" if nearest else ""
        others = "".join(f", or {prefix}:..." for prefix in components)
        raise ModelNameError(
            f"model {name!r}: Unknown model{hint}; "
            f"a model is PROVIDER:NAME, such as openai:gpt-5{others}"
        )
    try:
        return infer_model(name)
    except UserError as error:
        message = " ".join(str(error).split())
        raise ModelNameError(f"model {name!r}: {message}") from error


def _is_provider(name: str) -> bool:
    if name in _known_providers():
        return True
    from pydantic_ai.providers import infer_provider_class

    try:
        infer_provider_class(name)
    except ImportError:
        return True
    except ValueError:
        return False
    return True


def _known_providers() -> set[str]:
    return {known.partition(":")[0] for known in known_model_names() if ":" in known}


def _nearest(name: str, components: Collection[str]) -> str | None:
    provider, _, model = name.partition(":")
    if model:
        prefixes = get_close_matches(provider, [*components, *sorted(_known_providers())], n=1)
        if prefixes:
            return f"{prefixes[0]}:{model}"
    names = [known for known in known_model_names() if not known.startswith("gateway/")]
    by_last_part = {known.partition(":")[2] or known: known for known in reversed(names)}
    nearest = get_close_matches(model or provider, by_last_part, n=1)
    return by_last_part[nearest[0]] if nearest else None
