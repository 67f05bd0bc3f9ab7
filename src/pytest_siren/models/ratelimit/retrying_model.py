"""A model whose requests keep to a rate limit and are sent again when they fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import random as random_number
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from pytest_siren.evaluation.models import ModelUnavailableError, Retry
from pytest_siren.models.ratelimit.caps import Estimate
from pytest_siren.models.ratelimit.error_class import Kind, Trouble, Verdict, judge
from pytest_siren.models.ratelimit.error_details import (
    NO_ADVICE,
    Advice,
    Facts,
    advice_of,
    facts_of,
)
from pytest_siren.models.ratelimit.error_messages import too_long, unavailable
from pytest_siren.models.ratelimit.limiter import Budget
from pytest_siren.models.transport.sequencing import EXCHANGE, Exchange, Turns
from pytest_siren.models.wire.errors import UnusableAnswerError
from pytest_siren.models.wire.exchange import RECEIVED, Notes, Outgoing, Received, reading
from pytest_siren.sharing.board import Gauge

if TYPE_CHECKING:
    from pydantic_ai.tools import RunContext


Random = Callable[[], float]
"""Returns a number from 0 to 1."""

_FAULT_BASE, _FAULT_LONGEST = 0.5, 30.0
_DOUBLINGS = 4
_REFUSAL_BASE, _REFUSAL_LONGEST = 1.0, 60.0


def after_fault(tries: int, random: Random) -> float:
    """Return seconds after ``tries`` faults in a row: full jitter over 0.5 s * 2^n, 30 s at most.

    Full jitter: M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
    """
    return random() * min(_FAULT_LONGEST, _FAULT_BASE * 2.0 ** min(tries, 16))


def after_refusal(refusals: int, advised: float | None, random: Random) -> float:
    """Return seconds after ``refusals`` in a row, the last of which ``advised`` to wait so long.

    Never less than advised; a little more, and the more the oftener, so that those who were refused
    together do not come back together.
    """
    if advised is None:
        return random() * min(_REFUSAL_LONGEST, _REFUSAL_BASE * 2.0 ** min(refusals, 16))
    more = max(0.25, 0.1 * advised) * 2.0 ** min(refusals, _DOUBLINGS)
    return advised + random() * min(_FAULT_LONGEST, more)


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


_T = TypeVar("_T")


class GovernedModel(WrapperModel):
    """One run's view of a model that all runs share.

    A request waits for a place in ``budget``, and is sent again when it was refused or met with an
    accident. Raises ``ModelUnavailableError`` when no request on the model can succeed.
    """

    def __init__(
        self,
        wrapped: Model,
        budget: Budget,
        name: str,
        *,
        turns: Turns | None = None,
        estimate: Estimate | None = None,
        notes: Notes | None = None,
        outgoing: Outgoing | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """``turns`` only for a model whose transport gives them back, as ``Connections`` does."""
        super().__init__(wrapped)
        self._budget = budget
        self._name = name
        self._turns = turns
        self._estimate = estimate if budget.counts_tokens else None
        self._patience = patience
        self._notes = notes or Notes(name)
        self._outgoing = outgoing or Outgoing(self._notes)
        self._retries: list[Retry] = []
        self._billed: list[ModelResponse] = []
        self._looked_at: dict[int, tuple[ModelMessage, ModelMessage]] = {}

    @property
    def retries(self) -> Sequence[Retry]:
        """What was sent again so far, oldest first."""
        return self._retries

    def take_billed(self) -> Sequence[ModelResponse]:
        """Return answers without content that tell of tokens, since this was last called."""
        taken, self._billed = self._billed, []
        return taken

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        sent = self._outgoing.messages(messages, self._looked_at)
        settings = self._outgoing.settings(_without_retries(model_settings))
        parameters = self._outgoing.parameters(model_request_parameters)
        return await self._persist(
            messages, lambda: self.wrapped.request(sent, settings, parameters), _tokens
        )

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        sent = self._outgoing.messages(messages, self._looked_at)
        settings = self._outgoing.settings(_without_retries(model_settings))
        parameters = self._outgoing.parameters(model_request_parameters)
        return await self._persist(
            [], lambda: self.wrapped.count_tokens(sent, settings, parameters), lambda usage: 0
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Send again until the answer begins; what breaks off later is the caller's."""
        sent = self._outgoing.messages(messages, self._looked_at)
        settings = self._outgoing.settings(_without_retries(model_settings))
        parameters = self._outgoing.parameters(model_request_parameters)
        async with AsyncExitStack() as stack:

            async def opened() -> StreamedResponse:
                return await stack.enter_async_context(
                    self.wrapped.request_stream(sent, settings, parameters, run_context)
                )

            yield await self._persist(messages, opened, lambda stream: 0)

    async def _persist(
        self,
        messages: list[ModelMessage],
        ask: Callable[[], Awaitable[_T]],
        tokens_of: Callable[[_T], int],
    ) -> _T:
        budget, estimate = self._budget, self._estimate
        attempts: Attempts | None = None
        while True:
            announced = estimate.of(messages) if estimate is not None else 0.0
            if (reason := budget.unavailable()) is not None:
                # Another run has found out.
                raise ModelUnavailableError(reason)
            await budget.acquire(announced, again=attempts is not None)
            exchange = Exchange()
            # Nothing was consumed unless the answer tells.
            excess = -announced
            try:
                started = time.monotonic()
                answer = await self._ask(ask, exchange)
                latency = time.monotonic() - started
                if estimate is not None and (used := tokens_of(answer)):
                    excess = used - announced
                    estimate.learn(messages, used)
            except Exception as caught:  # noqa: BLE001 - judged below, and raised unless retried
                error = caught
            except BaseException:
                budget.release(excess)
                raise
            else:
                budget.succeeded(latency, _advice(exchange))
                budget.waits.count(Gauge.REQUESTS)
                budget.release(excess)
                return answer
            if attempts is None:
                attempts = Attempts(self._name, budget, self._retries, self._patience)
            await attempts.failed(error, exchange, excess)

    async def _ask(self, ask: Callable[[], Awaitable[_T]], exchange: Exchange) -> _T:
        if self._turns is not None:
            exchange.turn = await self._turns.take()
        received = Received()
        exchanging, receiving = EXCHANGE.set(exchange), RECEIVED.set(received)
        try:
            with reading(received):
                answer = _checked(await ask())
        except Exception:
            if (usage := received.billed()) is not None:
                self._billed.append(self._unanswered(usage))
            raise
        finally:
            RECEIVED.reset(receiving)
            EXCHANGE.reset(exchanging)
            exchange.sent()
        if received.usage_problem is not None:
            self._mark(answer, received, received.usage_problem)
        return answer

    def _unanswered(self, usage: RequestUsage) -> ModelResponse:
        wrapped = self.wrapped
        return ModelResponse(
            parts=[],
            usage=usage,
            model_name=wrapped.model_name,
            provider_name=wrapped.system,
            provider_url=wrapped.base_url,
        )

    def _mark(self, answer: object, received: Received, problem: str) -> None:
        if isinstance(answer, ModelResponse) and not received.measured:
            answer.usage.unmeasured_requests = max(1, answer.usage.unmeasured_requests)
        self._notes.give(
            f"the usage that its provider reports {problem}; "
            "tokens are counted as far as they are known"
        )


def _advice(exchange: Exchange) -> Advice:
    """Read the headers of a success, which hardly ever say that nothing is left."""
    headers = exchange.headers
    if headers is None or "0" not in headers.values():
        return NO_ADVICE
    return advice_of(dict(headers))


def _checked(answer: _T) -> _T:
    """Return ``answer``. Raises ``TypeError`` for one whose text is none."""
    if isinstance(answer, ModelResponse):
        for part in answer.parts:
            if isinstance(part, TextPart) and not isinstance(part.content, str):
                raise TypeError(f"text must be text, not {type(part.content).__name__}")
    return answer


def _tokens(response: ModelResponse) -> int:
    return response.usage.input_tokens + response.usage.output_tokens


def _without_retries(settings: ModelSettings | None) -> ModelSettings | None:
    """Return ``settings`` without the SDK's own retries, which nobody would count."""
    if settings is None or "max_retries" not in settings:
        return settings
    kept = settings.copy()
    del kept["max_retries"]
    return kept
