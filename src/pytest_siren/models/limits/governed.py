"""A model whose requests keep to a budget."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from pytest_siren.evaluation.models import ModelUnavailableError, Retry
from pytest_siren.models.limits.advice import NO_ADVICE, Advice, advice_of
from pytest_siren.models.limits.attempts import PATIENCE, Attempts
from pytest_siren.models.limits.budget import Budget
from pytest_siren.models.limits.estimate import Estimate
from pytest_siren.models.limits.exchange import EXCHANGE, Exchange
from pytest_siren.models.limits.turns import Turns
from pytest_siren.models.wire.outgoing import Notes, Outgoing
from pytest_siren.models.wire.reading import reading
from pytest_siren.models.wire.received import RECEIVED, Received
from pytest_siren.sharing.board import Gauge

if TYPE_CHECKING:
    from pydantic_ai.tools import RunContext

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
