"""What a run has used: tokens, tool calls and money."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Protocol

from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage, RunUsage, UsageLimits

from pytest_siren.evaluation.prices import CostUnknownError, Prices


class Spend(Protocol):
    """Whoever wants to know of every answer as soon as it is there, such as a session."""

    def add(
        self, input_tokens: int, output_tokens: int, cost: Decimal | None, unknown: str = ""
    ) -> None:
        """Take notice of one answer; ``cost`` in US dollars.

        ``cost`` is ``None`` when nobody can tell, and ``unknown`` says why in one sentence.
        """
        ...


class UsageUnknownError(ValueError):
    """Tokens are limited, and an answer does not tell how many it has."""


@dataclass
class Account:
    """Adds up the answers of one run."""

    model_id: str = ""
    prices: Prices | None = None
    """``None`` leaves the costs that the model reports itself."""
    spend: Spend | None = None
    usage: RunUsage = field(default_factory=RunUsage)
    unpriced: int = 0
    """Answers whose cost is unknown; ``usage.cost`` is that of the others."""
    unknown: str = ""
    """Why the cost of the first of these is unknown, as the beginning of a sentence."""
    _SILENT: ClassVar[str] = (
        "the usage of an answer of {!r} is missing, incomplete or contradictory"
    )

    def add(self, response: ModelResponse) -> None:
        """Write the cost of ``response`` into its usage, and count it."""
        usage = response.usage
        if self.prices is not None:
            usage.cost = self.prices.of(self.model_id, response)
        self.usage.incr(usage)
        self.usage.requests += 1
        if usage.cost is None:
            self.unpriced += 1
            self.unknown = self.unknown or self._why_unknown(usage)
        if self.spend is not None:
            why = self._why_unknown(usage) if usage.cost is None else ""
            self.spend.add(usage.input_tokens, usage.output_tokens, usage.cost, why)

    def check(self, limits: UsageLimits) -> None:
        """Raise ``UsageLimitExceeded`` when a limit of cost or tokens has been passed.

        Raises ``CostUnknownError`` or ``UsageUnknownError`` when nobody can tell whether it has.
        """
        if limits.cost_limit is not None:
            limits.check_cost(self.usage, warn_if_cost_unavailable=False)
            if self.unpriced:
                raise CostUnknownError(
                    f"usage_limits.cost is {limits.cost_limit}, but {self.unknown}, "
                    "so the cost of the run is unknown"
                )
        if limits.has_token_limits():
            known = copy(self.usage)
            known.unmeasured_requests = 0
            limits.check_tokens(known)
            if self.usage.unmeasured_requests:
                raise UsageUnknownError(
                    f"usage_limits limit the tokens, but {self._SILENT.format(self.model_id)}, "
                    "so the number of tokens of the run is unknown"
                )

    def _why_unknown(self, usage: RequestUsage) -> str:
        if usage.unmeasured_requests:
            return self._SILENT.format(self.model_id)
        return f"no price is known for an answer of {self.model_id!r}"
