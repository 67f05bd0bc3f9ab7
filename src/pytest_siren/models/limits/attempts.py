"""One request, sent until it is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from random import random as random_number

from pytest_siren.evaluation.models import ModelUnavailableError, Retry
from pytest_siren.models.limits.advice import Advice, advice_of
from pytest_siren.models.limits.backoff import Random, after_fault, after_refusal
from pytest_siren.models.limits.budget import Budget
from pytest_siren.models.limits.exchange import Exchange
from pytest_siren.models.limits.facts import Facts, facts_of
from pytest_siren.models.limits.remedy import too_long, unavailable
from pytest_siren.models.limits.verdict import Kind, Trouble, Verdict, judge
from pytest_siren.models.wire.errors import UnusableAnswerError
from pytest_siren.sharing.board import Gauge

_FAULTS = 6
"""Tries in a row that may end in a fault."""
_UNREACHED = 4
"""Those on a model that has not answered yet, if no connection comes about: 3.5 s at most."""
_UNEXPLAINED = 3
"""Requests that are rejected without a reason before the model counts as unavailable."""
PATIENCE = 900.0
"""Seconds that one request waits at most, in all."""


@dataclass
class Attempts:
    """The tries of one request; ``model`` is the name for messages."""

    model: str
    budget: Budget
    retries: list[Retry]
    patience: float = PATIENCE
    random: Random = random_number
    _waited: float = 0.0
    _faults: int = 0
    _refusals: int = 0

    async def failed(self, error: Exception, exchange: Exchange, excess: float) -> None:
        """Give the request's place back, and return when the request is to be sent again.

        Raises ``error`` itself when it is not, or ``ModelUnavailableError`` when no other request
        could succeed either. The request had ``excess`` tokens more than were announced.
        """
        facts = facts_of(error)
        verdict = judge(facts)
        error = self._shown(error, facts)
        if verdict.kind is Kind.REFUSAL:
            self.budget.cool(excess)
        else:
            self.budget.release(excess)
        wait = self._wait(error, facts, verdict, exchange)
        if self._waited + wait > self.patience:
            error.add_note(
                f"given up after {self._refusals} refusals and {self._waited:.0f} s of waiting"
            )
            raise error
        await self._pass(wait, verdict, facts)

    def _wait(self, error: Exception, facts: Facts, verdict: Verdict, exchange: Exchange) -> float:
        """Return the seconds until the request is sent again, or raise why it is not."""
        match verdict.kind:
            case Kind.REFUSAL:
                return self._refused(facts, exchange)
            case Kind.FAULT:
                return self._fault(error, facts)
            case Kind.UNAVAILABLE:
                raise self._unavailable(facts, verdict.trouble or Trouble.MODEL) from error
            case Kind.UNEXPLAINED if (
                not self.budget.proven and self.budget.rejected() >= _UNEXPLAINED
            ):
                raise self._unavailable(facts, verdict.trouble or Trouble.ADDRESS) from error
            case _:
                raise error

    def _refused(self, facts: Facts, exchange: Exchange) -> float:
        advice = advice_of(exchange.headers or facts.headers)
        if advice.wait is None and facts.retry_after is not None:
            advice = Advice(facts.retry_after)
        self._faults = 0
        self._refusals += 1
        if advice.wait is not None and advice.wait > self.patience:
            raise ModelUnavailableError(too_long(self.model, advice.wait, self.patience))
        self.budget.refused(advice)
        return after_refusal(self._refusals - 1, advice.wait, self.random)

    def _fault(self, error: Exception, facts: Facts) -> float:
        self._faults += 1
        if not self.budget.proven:
            if facts.certificate:
                raise self._unavailable(facts, Trouble.CERTIFICATE) from error
            if facts.connecting and self._faults >= _UNREACHED:
                raise self._unavailable(facts, Trouble.ADDRESS) from error
        if self._faults >= _FAULTS:
            if facts.page and not self.budget.proven:
                raise self._unavailable(facts, Trouble.ADDRESS) from error
            error.add_note(f"given up after {self._faults} tries in a row")
            raise error
        return after_fault(self._faults - 1, self.random)

    def _shown(self, error: Exception, facts: Facts) -> Exception:
        """Return ``error``, or one in the provider's words where a library's own say nothing."""
        if not facts.unusable:
            return error
        shown = UnusableAnswerError(self.model, facts.message)
        shown.__cause__ = error
        return shown

    def _unavailable(self, facts: Facts, trouble: Trouble) -> ModelUnavailableError:
        return ModelUnavailableError(unavailable(self.model, facts, trouble))

    async def _pass(self, wait: float, verdict: Verdict, facts: Facts) -> None:
        refused_at = datetime.now(UTC)
        started = time.monotonic()
        self.budget.waits.count(Gauge.RETRIES)
        try:
            with self.budget.waits.until(refused_at.timestamp() + wait):
                await asyncio.sleep(wait)
        finally:
            waited = time.monotonic() - started
            self._waited += waited
            self.retries.append(Retry(refused_at, verdict.reason, facts.status, waited))
