"""What the answers of models cost: genai-prices, with a user's own table on top."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, TypeAlias

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from pytest_siren.evaluation.models import NoModel
from pytest_siren.evaluation.providers import is_provider

FREE = frozenset({"local", "replay", "control", "test", NoModel.id})
"""What stands before the colon in names of models that run in this process, or are none."""

_Dollars = Annotated[Decimal, Field(strict=False, ge=0)]
_Listed: TypeAlias = tuple[Provider, ModelInfo]
_MOST_LISTED = 1_000
"""Servers make up the names in their answers, so what is kept by them is bounded."""
_NO_COUNTS = frozenset({"details", "cost", "unmeasured_requests"})
"""Fields of a usage that are no counts of what a provider charges."""


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

    def charges(self, usage: RequestUsage) -> bool:
        """Tell whether all that ``usage`` counts is tokens, of which there is a wider kind."""
        return not any(
            count
            for kind, count in vars(usage).items()
            if kind not in _NO_COUNTS and not kind.endswith("_tokens")
        )

    def cost(self, usage: RequestUsage) -> Decimal:
        """Return the US dollars of one request. Raises ``ValueError`` for impossible counts."""
        price = ModelPrice(
            input_mtok=self.input_mtok,
            output_mtok=self.output_mtok,
            cache_read_mtok=self.cache_read_mtok,
            cache_write_mtok=self.cache_write_mtok,
            requests_kcount=self.request * 1_000,
        )
        return price.calc_price(usage)["total_price"]

    @property
    def counts_tokens(self) -> bool:
        """Whether the cost of a request depends on its tokens."""
        return any((self.input_mtok, self.output_mtok, self.cache_read_mtok, self.cache_write_mtok))


class Prices:
    """Prices by model.

    A name in ``table`` is a model's id, such as ``openai:gpt-5``, or a pattern with ``*``, ``?``
    and ``[...]``; the id itself comes first, then the patterns in their order. What is not in it
    has the price that genai-prices knows.
    """

    def __init__(self, table: Mapping[str, Price] | None = None) -> None:
        self._table = dict(table or {})
        self._listed = lru_cache(_MOST_LISTED)(_listed)

    def of(self, model_id: str, response: ModelResponse) -> Decimal | None:
        """Return what ``response`` cost in US dollars; ``None`` when nobody can tell."""
        own = self._own(model_id)
        if own is not None:
            return _own_cost(own, response)
        # The service behind an agent without a model may cost something.
        unknown = model_id == NoModel.id
        if is_free(model_id) and not unknown:
            return Decimal(0)
        if response.usage.cost is not None:
            return response.usage.cost  # as pydantic-ai's gateway reports what it charged
        if unknown and not response.usage.total_tokens:
            return Decimal(0)
        listed = self._by_answer(response) or self._by_name(model_id)
        return _listed_cost(*listed, response) if listed is not None else None

    def known(self, model_id: str) -> bool:
        """Tell, before it is asked anything, whether the model has a price."""
        return (
            is_free(model_id)
            or self._own(model_id) is not None
            or self._by_name(model_id) is not None
        )

    def _own(self, model_id: str) -> Price | None:
        if model_id in self._table:
            return self._table[model_id]
        # "*" is meant for models that cost something.
        prefix = f"{model_id.partition(':')[0]}:" if is_free(model_id) else ""
        return next(
            (
                price
                for pattern, price in self._table.items()
                if pattern.startswith(prefix) and fnmatchcase(model_id, pattern)
            ),
            None,
        )

    def _by_answer(self, answer: ModelResponse) -> _Listed | None:
        """Return the model that answered, found as pydantic-ai finds it."""
        if not answer.model_name:
            return None
        url, provider = answer.provider_url, answer.provider_name
        if url and provider != "openai-decisions":  # which shares OpenAI's address
            listed = self._listed(answer.model_name, None, url)
            if listed is not None:
                return listed
        return self._listed(answer.model_name, provider, None)

    def _by_name(self, model_id: str) -> _Listed | None:
        """Return pydantic-ai's model of this name."""
        provider, _, model = model_id.partition(":")
        if not model or not is_provider(provider):
            return None
        return self._listed(model, provider.removeprefix("gateway/"), None)


def is_free(model_id: str) -> bool:
    """Tell whether the model runs in this process or is none, unless a table prices it."""
    return model_id.partition(":")[0] in FREE


def _own_cost(price: Price, answer: ModelResponse) -> Decimal | None:
    if not price.charges(answer.usage):
        return None
    try:
        cost = price.cost(answer.usage)
    except (TypeError, ValueError):  # what genai-prices raises for counts that cannot be
        return None
    return cost if _measured(answer) or not price.counts_tokens else None


def _listed_cost(provider: Provider, model: ModelInfo, answer: ModelResponse) -> Decimal | None:
    try:
        price = model.calc_price(
            answer.usage,
            provider,
            genai_request_timestamp=answer.timestamp,
            price_context=answer.provider_details,
        )
    except (TypeError, ValueError):
        return None
    return price.total_price if _measured(answer) else None


def _measured(answer: ModelResponse) -> bool:
    """Tell whether the provider said how many tokens it counted."""
    return not answer.usage.unmeasured_requests


def _listed(model: str, provider: str | None, url: str | None) -> _Listed | None:
    """Return the model that genai-prices lists; ``None`` when it lists none."""
    try:
        return get_snapshot().find_provider_model(model, None, provider, url)
    except LookupError:
        return None
