"""Models behind an API: every model string that pydantic-ai knows."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from urllib.request import getproxies

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, known_model_names
from pydantic_ai.providers import infer_provider_class

from pytest_siren.evaluation.models import ModelKind, ModelUnavailableError, RunContext, Unknown
from pytest_siren.evaluation.providers import is_provider, provider_names
from pytest_siren.models.loops import ModelPerLoop
from pytest_siren.models.names import spoken_name
from pytest_siren.models.provider_settings import (
    address_problem,
    address_variable,
    key_problem,
    proxy_problem,
)
from pytest_siren.models.ratelimit.caps import Estimate
from pytest_siren.models.ratelimit.limiter import RateLimiter, RateLimiters
from pytest_siren.models.ratelimit.retrying_model import RetryingModel
from pytest_siren.models.transport.client import opened, without_own_retries
from pytest_siren.models.transport.sequencing import SequencedTransport
from pytest_siren.models.wire.exchange import Notes, Outgoing

_NEEDS_NO_PROVIDER = "test"
"""pydantic-ai's ``TestModel``, the one model whose name has no colon."""


_MISSING_KEY = re.compile(r"Set the `(\w*(?:KEY|TOKEN))` environment variable or pass it via")
"""How pydantic-ai's message begins, which goes on about its own classes."""

_EXTRA = re.compile(r"pydantic-ai-slim\[([\w-]+)\]")
EXTRAS = (
    *("anthropic", "bedrock", "cerebras", "cohere", "crusoe", "google", "groq", "huggingface"),
    *("mistral", "openrouter", "snowflake", "typesafe", "xai", "zai"),
)
"""Extras of this package that install what a provider needs: pydantic-ai's own, by their names."""


class ModelNameError(ModelUnavailableError, ValueError):
    """pydantic-ai does not know the model, or lacks what it needs to reach it."""


class ModelPackageError(ModelUnavailableError, ImportError):
    """The package of the model's provider is not installed."""


class ApiModelSource:
    """One model object for all runs of an event loop, so that connections are used again.

    ``bind`` raises ``ModelNameError`` or ``ModelPackageError``, which say what is wrong or missing.
    """

    kind = ModelKind.MODEL

    def __init__(self, name: str, components: Collection[str] = ()) -> None:
        self.id = self.label = name
        self.spoken_name = spoken_name(name)
        self._components = components
        self._models = ModelPerLoop(self._open)
        self._limiter: RateLimiter | None = None
        self._estimate = Estimate()
        self._transports: dict[int, SequencedTransport] = {}
        self._notes = Notes(name)
        self._outgoing = Outgoing(self._notes)

    def use_rate_limiter(self, limiters: RateLimiters) -> None:
        """Send requests only as the limiter of this model admits them."""
        self._limiter = limiters.limiter(self.id)

    def check(self) -> None:
        """Raise ``ModelNameError`` or ``ModelPackageError`` unless the provider can be used here.

        Neither its key nor its address is looked at.
        """
        _check(self.id, self._components)
        if self.id == _NEEDS_NO_PROVIDER:
            return
        try:
            infer_provider_class(self.id.partition(":")[0])
        except ImportError as error:
            raise ModelPackageError(f"model {self.id!r}: {_package(error)}") from error
        except ValueError:
            # It has no class of its own, as ``sentence-transformers`` has not.
            return

    async def bind(self, run: RunContext) -> Model:
        model = await self._models.get()
        if self._limiter is None:
            return model
        return RetryingModel(
            model,
            self._limiter,
            self.id,
            transport=self._transports.get(id(model)),
            estimate=self._estimate,
            notes=self._notes,
            outgoing=self._outgoing,
        )

    def warm(self) -> None:
        """Import the provider's client, which takes half a second and more."""
        provider = self.id.partition(":")[0]
        name = "openai" if provider.startswith("openai") else provider.replace("-", "_")
        needed = [f"pydantic_ai.providers.{name}", f"pydantic_ai.models.{name}"]
        if name == "openai":
            needed.append("pytest_siren.models.transport.openai_client")
        for module in needed:
            # Of a wrong name or a missing package ``bind`` says what to do.
            with suppress(ImportError):
                import_module(module)

    def unknown(self, run: RunContext) -> Unknown:
        """A model gives both scores."""
        return Unknown()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._models.aclose()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Model]:
        name = self.id
        self.check()
        _check_settings(name)
        async with AsyncExitStack() as stack:
            try:
                model, transport = await stack.enter_async_context(opened(name))
            except UserError as error:
                raise ModelNameError(f"model {name!r}: {_needed(error)}") from error
            except ImportError as error:
                raise ModelPackageError(f"model {name!r}: {_package(error)}") from error
            except Exception as error:
                # Nothing has been asked yet: what is wrong is wrong for every run.
                raise ModelNameError(
                    f"model {name!r}: {type(error).__name__}: {_line(error)}"
                ) from error
            _check_address(name, model)
            if self._limiter is not None:
                without_own_retries(model)
                if transport is not None:
                    self._transports[id(model)] = transport
                    stack.callback(self._transports.pop, id(model))
            yield model


def api_model(name: str, components: Collection[str] = ()) -> ApiModelSource:
    """Return the source of pydantic-ai's model ``name``, such as ``openai:gpt-5``.

    Provider, key and package are looked for when the first run needs them. ``components`` are the
    prefixes that lead elsewhere, for the hint in the message of an unknown provider.
    """
    return ApiModelSource(name, components)


def _check(name: str, components: Collection[str]) -> None:
    """Raise ``ModelNameError`` when no provider goes by that name."""
    provider, _, model = name.partition(":")
    if name == _NEEDS_NO_PROVIDER or (model and is_provider(provider)):
        return
    nearest = _nearest(name, components)
    hint = f" (did you mean {nearest!r}?)" if nearest else ""
    others = "".join(f", or {prefix}:..." for prefix in components)
    raise ModelNameError(
        f"model {name!r}: Unknown model{hint}; "
        f"a model is PROVIDER:NAME, such as openai:gpt-5{others}"
    )


def _check_settings(name: str) -> None:
    """Raise ``ModelNameError`` when no request can be sent with what the environment holds."""
    variable = address_variable(name)
    problem = key_problem(name, os.environ)
    if problem is None and (address := os.environ.get(variable)) is not None:
        problem = address_problem(variable, address)
    if problem is not None:
        raise ModelNameError(f"model {name!r}: {problem}")


def _check_address(name: str, model: Model) -> None:
    """Raise ``ModelNameError`` when nothing can be sent to the model's address.

    Credentials in it would be sent in place of the API key, or beside it, as the library pleases.
    """
    if not (address := model.base_url):
        return
    problem = address_problem(address_variable(name), address)
    problem = problem or proxy_problem(address, getproxies())
    if problem is not None:
        raise ModelNameError(f"model {name!r}: {problem}")


def _needed(error: UserError) -> str:
    """Return what pydantic-ai says; of a missing key, only what a user of this plugin can do."""
    missing = _MISSING_KEY.match(str(error))
    return f"its API key is missing; set {missing[1]}" if missing else _line(error)


def _package(error: ImportError) -> str:
    """Return which package is missing, and the command that installs it."""
    asked = _EXTRA.search(str(error))
    if asked is None or asked[1] not in EXTRAS:
        return _line(error)
    return (
        "the package of its provider is not installed; "
        f"install it with: pip install 'pytest-siren[{asked[1]}]'"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _nearest(name: str, components: Collection[str]) -> str | None:
    provider, _, model = name.partition(":")
    if model:
        prefixes = get_close_matches(provider, [*components, *sorted(provider_names())], n=1)
        if prefixes:
            return f"{prefixes[0]}:{model}"
    names = [known for known in known_model_names() if not known.startswith("gateway/")]
    by_last_part = {known.partition(":")[2] or known: known for known in reversed(names)}
    nearest = get_close_matches(model or provider, by_last_part, n=1)
    return by_last_part[nearest[0]] if nearest else None
