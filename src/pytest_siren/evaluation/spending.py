"""What a run has used: tokens, tool calls and money."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RunUsage, UsageLimits

from pytest_siren.evaluation.prices import CostUnknownError, Prices


class Spend(Protocol):
    """Whoever wants to know of every answer as soon as it is there, such as a session."""

    def add(self, input_tokens: int, output_tokens: int, cost: Decimal | None) -> None:
        """Take notice of one answer; ``cost`` in US dollars, ``None`` without a price."""
        ...


@dataclass
class Account:
    """Adds up the answers of one run."""

    model_id: str = ""
    prices: Prices | None = None
    """``None`` leaves the costs that the model reports itself."""
    spend: Spend | None = None
    usage: RunUsage = field(default_factory=RunUsage)
    unpriced: int = 0
    """Answers for which no price is known; ``usage.cost`` is that of the others."""

    def add(self, response: ModelResponse) -> None:
        """Write the cost of ``response`` into its usage, and count it."""
        usage = response.usage
        if self.prices is not None:
            usage.cost = self.prices.of(self.model_id, response)
        self.usage.incr(usage)
        self.usage.requests += 1
        if usage.cost is None:
            self.unpriced += 1
        if self.spend is not None:
            self.spend.add(usage.input_tokens, usage.output_tokens, usage.cost)

    def check_cost(self, limits: UsageLimits) -> None:
        """Raise ``UsageLimitExceeded`` or, where nobody can tell, ``CostUnknownError``."""
        if limits.cost_limit is None:
            return
        limits.check_cost(self.usage, warn_if_cost_unavailable=False)
        if self.unpriced:
            raise CostUnknownError(
                f"usage_limits.cost is {limits.cost_limit}, but an answer of {self.model_id!r} "
                "has no price or does not tell its tokens, so nobody knows what the run has cost"
            )
