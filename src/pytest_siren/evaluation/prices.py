"""What the answers of models cost: genai-prices, with a user's own table on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, TypeAlias

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai.messages import ModelResponse

from pytest_siren.evaluation.models import NoModel
from pytest_siren.evaluation.providers import is_provider
from pytest_siren.evaluation.rates import Rates

FREE = frozenset({"local", "replay", "control", "test", NoModel.id})
"""What stands before the colon in names of models that run in this process, or are none."""

_Dollars = Annotated[Decimal, Field(strict=False, ge=0)]
_Tariff: TypeAlias = Callable[[ModelResponse], Decimal | None]
_MOST_TARIFFS = 1_000
"""Servers make up the names in their answers, so what is kept by them is bounded."""


class CostUnknownError(ValueError):
    """A cost is limited, and a model has no price."""


class Price(BaseModel):
    """A user's price of a model: US dollars per million tokens, and per request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input_mtok: _Dollars = Field(description="Input tokens")
    output_mtok: _Dollars = Field(description="Output tokens")
    cache_read_mtok: _Dollars | None = Field(
        default=None, description="Input tokens read from a cache; else as `input_mtok`"
    )
    cache_write_mtok: _Dollars | None = Field(
        default=None, description="Input tokens written to a cache; else as `input_mtok`"
    )
    request: _Dollars = Field(default=Decimal(0), description="Each request, in US dollars")

    def rates(self) -> Rates:
        """Return the price in the form that requests are charged by."""
        return Rates(
            input=self.input_mtok,
            output=self.output_mtok,
            cache_read=self.cache_read_mtok,
            cache_write=self.cache_write_mtok,
            request=self.request,
        )


class Prices:
    """Prices by model.

    A name in ``table`` is a model's id, such as ``openai:gpt-5``, or a pattern with ``*``, ``?``
    and ``[...]``; the id itself comes first, then the patterns in their order. What is not in it
    has the price that genai-prices knows.
    """

    def __init__(self, table: Mapping[str, Price] | None = None) -> None:
        self._table = {name: price.rates() for name, price in (table or {}).items()}
        self._tariffs: dict[tuple[str | None, ...], _Tariff] = {}

    def of(self, model_id: str, response: ModelResponse) -> Decimal | None:
        """Return what ``response`` cost in US dollars; ``None`` when nobody can tell."""
        key = (model_id, response.provider_url, response.provider_name, response.model_name)
        tariff = self._tariffs.get(key)
        if tariff is None:
            if len(self._tariffs) >= _MOST_TARIFFS:
                self._tariffs.clear()
            tariff = self._tariffs[key] = self._tariff(model_id, response)
        return tariff(response)

    def known(self, model_id: str) -> bool:
        """Tell, before it is asked anything, whether the model has a price."""
        return (
            is_free(model_id) or self._own(model_id) is not None or _by_name(model_id) is not None
        )

    def _tariff(self, model_id: str, response: ModelResponse) -> _Tariff:
        own = self._own(model_id)
        if own is not None:
            return lambda answer: _cost(own, answer) if own.reach(answer.usage) else None
        if model_id == NoModel.id:
            return _as_told
        if is_free(model_id):
            return lambda answer: Decimal(0)
        return _by_answer(response) or _by_name(model_id) or _as_reported

    def _own(self, model_id: str) -> Rates | None:
        if model_id in self._table:
            return self._table[model_id]
        # "*" is meant for models that cost something.
        prefix = f"{model_id.partition(':')[0]}:" if is_free(model_id) else ""
        return next(
            (
                rates
                for pattern, rates in self._table.items()
                if pattern.startswith(prefix) and fnmatchcase(model_id, pattern)
            ),
            None,
        )


def is_free(model_id: str) -> bool:
    """Tell whether the model runs in this process or is none, unless a table prices it."""
    return model_id.partition(":")[0] in FREE


class _Listed:
    """The tariff of a model that genai-prices lists."""

    def __init__(self, provider: Provider, model: ModelInfo) -> None:
        self._provider, self._model = provider, model
        lists_it = any(model is one for one in provider.models)
        self._variants = (model.price_variants or []) if lists_it else []
        self._rates: dict[tuple[int, ...], Rates | None] = {}

    def __call__(self, answer: ModelResponse) -> Decimal | None:
        if answer.usage.cost is not None:
            return answer.usage.cost  # pydantic-ai's gateway has told what it charged
        try:
            rates = self._rates_for(answer)
            if rates is not None and rates.cover(answer.usage):
                return _cost(rates, answer)
            return self._calculated(answer)
        except (TypeError, ValueError):  # what genai-prices raises for counts that cannot be
            return None

    def _rates_for(self, answer: ModelResponse) -> Rates | None:
        context = answer.provider_details or {}
        chosen = [
            index
            for index, variant in enumerate(self._variants)
            if all(context.get(key) == value for key, value in variant.when.items())
            and (variant.constraint is None or variant.constraint.active(answer.timestamp))
        ]
        # The model holds its price lists for as long as this object holds the model.
        key = (id(self._model.get_prices(answer.timestamp)), *chosen)
        if key not in self._rates:
            price = self._model.get_prices(answer.timestamp, context if chosen else None)
            self._rates[key] = Rates.of(price)
        return self._rates[key]

    def _calculated(self, answer: ModelResponse) -> Decimal | None:
        price = self._model.calc_price(
            answer.usage,
            self._provider,
            genai_request_timestamp=answer.timestamp,
            price_context=answer.provider_details,
        )
        return price.total_price if _measured(answer) else None


def _cost(rates: Rates, answer: ModelResponse) -> Decimal | None:
    try:
        cost = rates.cost(answer.usage)
    except (TypeError, ValueError):
        return None
    return cost if _measured(answer) or rates.counts_no_tokens else None


def _measured(answer: ModelResponse) -> bool:
    """Tell whether the provider said how many tokens it counted."""
    return not answer.usage.unmeasured_requests


def _as_told(answer: ModelResponse) -> Decimal | None:
    """Return the cost of a message of an agent without a model, whose service may have one."""
    if answer.usage.cost is None and not answer.usage.total_tokens:
        return Decimal(0)
    tariff = _by_answer(answer) or _as_reported
    return tariff(answer) if answer.usage.cost is None else answer.usage.cost


def _as_reported(answer: ModelResponse) -> Decimal | None:
    return answer.usage.cost


def _by_answer(answer: ModelResponse) -> _Listed | None:
    """Return the price of the model that answered, found as pydantic-ai finds it."""
    if not answer.model_name:
        return None
    url, provider = answer.provider_url, answer.provider_name
    if url and provider != "openai-decisions":  # which shares OpenAI's address
        listed = _listed(answer.model_name, None, url)
        if listed is not None:
            return listed
    return _listed(answer.model_name, provider, None)


def _by_name(model_id: str) -> _Listed | None:
    """Return the price of pydantic-ai's model of this name."""
    provider, _, model = model_id.partition(":")
    if not model or not is_provider(provider):
        return None
    return _listed(model, provider.removeprefix("gateway/"), None)


def _listed(model: str, provider: str | None, url: str | None) -> _Listed | None:
    try:
        return _Listed(*get_snapshot().find_provider_model(model, None, provider, url))
    except LookupError:
        return None
