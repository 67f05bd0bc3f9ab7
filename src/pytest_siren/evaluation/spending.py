"""What a run has used: tokens, tool calls and money."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
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


class Role(StrEnum):
    """Who asks a model in a run."""

    AGENT = "agent"
    ATTACKER = "attacker"
    """An attack that asks a model of its own."""
    JUDGE = "judge"
    """An evaluator that asks a model."""


@dataclass
class Account:
    """Adds up the answers of one model in one run."""

    model_id: str = ""
    prices: Prices | None = None
    """``None`` leaves the costs that the model reports itself."""
    spend: Spend | None = None
    usage: RunUsage = field(default_factory=RunUsage)
    unpriced: int = 0
    """Answers whose cost is unknown; ``usage.cost`` is that of the others."""
    unknown: str = ""
    """Why the cost of the first of these is unknown, as the beginning of a sentence."""
    silent: str = ""
    """The model of the first answer that does not tell all of its tokens."""
    total: Account | None = None
    """Where these answers are counted too."""
    _SILENT: ClassVar[str] = (
        "the usage of an answer of {!r} is missing, incomplete or contradictory"
    )

    def add(self, response: ModelResponse) -> None:
        """Write the cost of ``response`` into its usage, and count it."""
        usage = response.usage
        if self.prices is not None:
            usage.cost = self.prices.of(self.model_id, response)
        why = self._why_unknown(usage) if usage.cost is None else ""
        self._count(usage, why, self.model_id)
        if self.total is not None:
            self.total._count(usage, why, self.model_id)
        if self.spend is not None:
            self.spend.add(usage.input_tokens, usage.output_tokens, usage.cost, why)

    @property
    def cost(self) -> float | None:
        """US dollars; ``None`` when the price of any answer is unknown."""
        if self.unpriced or (self.usage.cost is None and self.usage.requests):
            return None
        return float(self.usage.cost or 0)

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
                    f"usage_limits limit the tokens, but {self._SILENT.format(self.silent)}, "
                    "so the number of tokens of the run is unknown"
                )

    def _count(self, usage: RequestUsage, why_unknown: str, model_id: str) -> None:
        self.usage.incr(usage)
        self.usage.requests += 1
        if usage.cost is None:
            self.unpriced += 1
            self.unknown = self.unknown or why_unknown
        if usage.unmeasured_requests:
            self.silent = self.silent or model_id

    def _why_unknown(self, usage: RequestUsage) -> str:
        if usage.unmeasured_requests:
            return self._SILENT.format(self.model_id)
        return f"no price is known for an answer of {self.model_id!r}"


@dataclass
class Accounts:
    """All that one run uses: the agent's model, an attacker's models and those of judges.

    ``total`` is what the limits of the run bind: everything but the judges of the final score.
    """

    model_id: str = ""
    prices: Prices | None = None
    spend: Spend | None = None
    attackers: dict[str, Account] = field(default_factory=dict)
    """By model."""
    judges: dict[str, Account] = field(default_factory=dict)
    """By model."""
    total: Account = field(default_factory=Account)
    agent: Account = field(init=False)
    final: bool = False
    """Whether the run has ended and is being scored."""

    def __post_init__(self) -> None:
        self.agent = self._new(self.model_id)

    def of(self, role: Role, model_id: str) -> Account:
        """Return the account of a model in a role."""
        if role is Role.AGENT:
            return self.agent
        accounts = self.attackers if role is Role.ATTACKER else self.judges
        if model_id not in accounts:
            accounts[model_id] = self._new(model_id)
        accounts[model_id].total = None if self.final else self.total
        return accounts[model_id]

    def called(self, calls: int) -> None:
        """Count ``calls`` of tools."""
        for account in (self.agent, self.total):
            account.usage.tool_calls += calls

    def _new(self, model_id: str) -> Account:
        return Account(model_id, self.prices, self.spend, total=self.total)
