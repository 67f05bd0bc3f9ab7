"""What the tokens of one model cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from genai_prices.types import ModelPrice, TieredPrices
from pydantic_ai.usage import RequestUsage

Rate: TypeAlias = Decimal | TieredPrices
"""US dollars per million tokens; the tier is chosen by all input tokens of the request."""

_MILLION = 1_000_000
_ALWAYS_COVERED = frozenset(
    {
        *("input_tokens", "output_tokens", "details", "cost", "unmeasured_requests"),
        *("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    }
)
_REASONING = "output_reasoning_tokens"


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one model, of which each request's cost follows in a few microseconds.

    Input tokens include those read from and written to a cache, and these those written for an
    hour. A kind of tokens without a rate of its own costs what the wider kind costs. That is how
    genai-prices counts, whose own calculation takes more than 100 microseconds.
    """

    input: Rate | None
    output: Rate | None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    request: Decimal = Decimal(0)
    """US dollars per request."""
    reasoning_apart: bool = False
    """Reasoning tokens have a rate of their own, which is not among these."""

    @classmethod
    def of(cls, price: ModelPrice) -> Rates | None:
        """Return the rates for text; ``None`` when only genai-prices can calculate with them."""
        try:
            price.calc_price(RequestUsage())
        except ValueError:
            return None
        rates = {key: rate for key, rate in vars(price).items() if rate is not None}
        request = rates.get("requests_kcount", Decimal(0))
        if not isinstance(request, Decimal):
            return None
        return cls(
            input=rates.get("input_mtok"),
            output=rates.get("output_mtok"),
            cache_read=rates.get("cache_read_mtok"),
            cache_write=rates.get("cache_write_mtok"),
            cache_write_1h=rates.get("cache_write_1h_mtok"),
            request=request / 1_000,
            reasoning_apart=any("reasoning" in key for key in rates),
        )

    def cover(self, usage: RequestUsage) -> bool:
        """Tell whether ``usage`` is free of what these rates leave out, such as audio."""
        return not any(
            count
            for kind, count in vars(usage).items()
            if kind not in _ALWAYS_COVERED and (kind != _REASONING or self.reasoning_apart)
        )

    def reach(self, usage: RequestUsage) -> bool:
        """Tell whether all that ``usage`` counts is tokens, of which there is a wider kind."""
        return not any(
            count
            for kind, count in vars(usage).items()
            if kind not in _ALWAYS_COVERED and not kind.endswith("_tokens")
        )

    def cost(self, usage: RequestUsage) -> Decimal:
        """Return the US dollars of one request. Raises ``ValueError`` for impossible counts."""
        size = rest = usage.input_tokens
        written = usage.cache_write_tokens
        total = Decimal(0)
        if self.cache_write_1h is not None and (count := usage.cache_write_1h_tokens):
            total += _dollars(self.cache_write_1h, count, size)
            rest -= count
            written -= count
        if self.cache_write is not None and written:
            total += _dollars(self.cache_write, written, size)
            rest -= written
        if self.cache_read is not None and (count := usage.cache_read_tokens):
            total += _dollars(self.cache_read, count, size)
            rest -= count
        if self.input is not None and rest:
            total += _dollars(self.input, rest, size)
        if self.output is not None and (count := usage.output_tokens):
            total += _dollars(self.output, count, size)
        return total / _MILLION + self.request

    @property
    def counts_no_tokens(self) -> bool:
        """Every request costs the same, however many tokens it has."""
        rates = (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h)
        return not any(rates)


def _dollars(rate: Rate, count: int, size: int) -> Decimal:
    """Return a million times the cost of ``count`` tokens in a request of ``size`` input tokens."""
    if count < 0:
        raise ValueError(f"{count} tokens of one kind: the counts contradict each other")
    if isinstance(rate, TieredPrices):
        passed = [tier.price for tier in rate.tiers if size > tier.start]
        rate = passed[-1] if passed else rate.base
    return rate * count
