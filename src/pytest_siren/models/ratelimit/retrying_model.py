"""A model whose requests keep to a rate limit, and are sent again when they fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from random import random as random_number
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from pytest_siren.evaluation.models import ModelUnavailableError, Retry
from pytest_siren.models.ratelimit.caps import Estimate
from pytest_siren.models.ratelimit.error_class import (
    NO_ADVICE,
    Advice,
    ErrorClass,
    ErrorDetails,
    ErrorKind,
    UnavailableReason,
    advice_of,
    classify,
    details_of,
)
from pytest_siren.models.ratelimit.error_messages import too_long, unavailable
from pytest_siren.models.ratelimit.limiter import RateLimiter
from pytest_siren.models.transport.sequencing import SequencedTransport
from pytest_siren.models.wire.errors import UnusableAnswerError
from pytest_siren.models.wire.exchange import TRACE, Notes, Outgoing, RequestTrace, reading
from pytest_siren.sharing.state import Gauge

if TYPE_CHECKING:
    from pydantic_ai.tools import RunContext

_T = TypeVar("_T")

Random = Callable[[], float]
"""Returns a number from 0 to 1."""

PATIENCE = 900.0
"""Seconds that one request waits at most, in all."""
_TRIES = 6
"""Tries in a row that may fail for a transient reason."""
_UNREACHED = 4
"""Those on a model that has not answered yet, if no connection comes about: 3.5 s at most."""
_UNEXPLAINED = 3
"""Requests that are rejected without a reason before the model counts as unavailable."""

_TRANSIENT_BASE, _TRANSIENT_LONGEST = 0.5, 30.0
_REFUSAL_BASE, _REFUSAL_LONGEST = 1.0, 60.0
_DOUBLINGS = 4


class RetryingModel(WrapperModel):
    """One run's view of a model that all runs share.

    A request waits until ``limiter`` admits it, and is sent again when it is refused or fails for a
    transient reason. Raises ``ModelUnavailableError`` when no request on the model can succeed.
    """

    def __init__(
        self,
        wrapped: Model,
        limiter: RateLimiter,
        name: str,
        *,
        transport: SequencedTransport | None = None,
        estimate: Estimate | None = None,
        notes: Notes | None = None,
        outgoing: Outgoing | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """``transport`` is what ``wrapped`` sends over; without it, requests have no order."""
        super().__init__(wrapped)
        self._limiter = limiter
        self._name = name
        self._transport = transport
        self._estimate = estimate if limiter.counts_tokens else None
        self._patience = patience
        self._notes = notes or Notes(name)
        self._outgoing = outgoing or Outgoing(self._notes)
        self._retries: list[Retry] = []
        self._billed: list[ModelResponse] = []
        self._looked_at: dict[int, tuple[ModelMessage, ModelMessage]] = {}

    @property
    def retries(self) -> Sequence[Retry]:
        """Requests that were sent again so far, oldest first."""
        return self._retries

    def take_billed(self) -> Sequence[ModelResponse]:
        """Return answers without content that report tokens, since this was last called."""
        taken, self._billed = self._billed, []
        return taken

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        asked = self._sendable(messages, model_settings, model_request_parameters)
        return await self._persist(messages, lambda: self.wrapped.request(*asked), _tokens)

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        asked = self._sendable(messages, model_settings, model_request_parameters)
        return await self._persist([], lambda: self.wrapped.count_tokens(*asked), lambda usage: 0)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Send again until the answer begins; the caller handles errors of a later part."""
        asked = self._sendable(messages, model_settings, model_request_parameters)
        async with AsyncExitStack() as stack:

            async def opened() -> StreamedResponse:
                return await stack.enter_async_context(
                    self.wrapped.request_stream(*asked, run_context)
                )

            yield await self._persist(messages, opened, lambda stream: 0)

    def _sendable(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> tuple[list[ModelMessage], ModelSettings | None, ModelRequestParameters]:
        """Return what can be sent in their place, without retries of the client."""
        return (
            self._outgoing.messages(messages, self._looked_at),
            self._outgoing.settings(_without_retries(settings)),
            self._outgoing.parameters(parameters),
        )

    async def _persist(
        self,
        messages: list[ModelMessage],
        ask: Callable[[], Awaitable[_T]],
        tokens_of: Callable[[_T], int],
    ) -> _T:
        """Send until there is an answer, or a reason not to send again."""
        tries = Tries(self._name, self._limiter, self._retries, self._patience)
        async for attempt in tries.attempts():
            with attempt:
                return await self._try(messages, ask, tokens_of, tries)
        raise AssertionError("the last attempt has returned or raised")

    async def _try(
        self,
        messages: list[ModelMessage],
        ask: Callable[[], Awaitable[_T]],
        tokens_of: Callable[[_T], int],
        tries: Tries,
    ) -> _T:
        """Send once. Raises ``SendAgain`` when another try may succeed."""
        limiter, estimate = self._limiter, self._estimate
        expected = estimate.of(messages) if estimate is not None else 0.0
        if (reason := limiter.unavailable()) is not None:
            # Another run has found out.
            raise ModelUnavailableError(reason)
        await limiter.acquire(expected, again=tries.failed_before)
        # Nothing was consumed unless the answer tells.
        unexpected = -expected
        trace = RequestTrace()
        started = time.monotonic()
        try:
            answer = await self._ask(ask, trace)
            if estimate is not None and (used := tokens_of(answer)):
                unexpected = used - expected
                estimate.learn(messages, used)
        except Exception as error:  # noqa: BLE001 - classified, and raised in one form or another
            details = details_of(error, trace.headers)
            error_class = classify(details)
            if error_class.kind is ErrorKind.RATE_LIMITED:
                limiter.release_after_cooldown(unexpected)
            else:
                limiter.release(unexpected)
            tries.failed(error, details, error_class)
        except BaseException:
            limiter.release(unexpected)
            raise
        # Our own queues are no part of the provider's time.
        latency = trace.latency if trace.latency is not None else time.monotonic() - started
        limiter.succeeded(latency, _advice(trace))
        limiter.waits.count(Gauge.REQUESTS)
        limiter.release(unexpected)
        return answer

    async def _ask(self, ask: Callable[[], Awaitable[_T]], trace: RequestTrace) -> _T:
        turn = self._transport.turn() if self._transport is not None else nullcontext()
        token = TRACE.set(trace)
        try:
            async with turn:
                with reading(trace):
                    answer = _checked(await ask())
        except Exception:
            if (usage := trace.billed()) is not None:
                self._billed.append(self._unanswered(usage))
            raise
        finally:
            TRACE.reset(token)
        if trace.usage_problem is not None:
            self._mark(answer, trace, trace.usage_problem)
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

    def _mark(self, answer: object, trace: RequestTrace, problem: str) -> None:
        if isinstance(answer, ModelResponse) and not trace.measured:
            answer.usage.unmeasured_requests = max(1, answer.usage.unmeasured_requests)
        self._notes.give(
            f"the usage that its provider reports {problem}; "
            "tokens are counted as far as they are known"
        )


class SendAgain(Exception):
    """A try failed, and another one may succeed after ``wait`` seconds.

    ``error`` is what the caller gets if there is no other try.
    """

    def __init__(self, error: Exception, wait: float, reason: str, status: int | None) -> None:
        super().__init__(reason)
        self.error = error
        self.wait = wait
        self.reason = reason
        self.status = status


class Tries:
    """The tries of one request: which failures are tried again, and when.

    ``model`` is the name for messages, ``patience`` the most seconds to wait in all. What is sent
    again is added to ``retries``.
    """

    def __init__(
        self,
        model: str,
        limiter: RateLimiter,
        retries: list[Retry],
        patience: float = PATIENCE,
        random: Random = random_number,
    ) -> None:
        self._model = model
        self._limiter = limiter
        self._retries = retries
        self._patience = patience
        self._random = random
        self._waited = 0.0
        self._refusals = 0
        self._transient = 0
        """Transient failures since the last refusal."""
        self._failure: SendAgain
        """The latest, once a try has failed."""

    @property
    def failed_before(self) -> bool:
        """Whether a try has failed."""
        return bool(self._refusals or self._transient)

    def attempts(self) -> AsyncRetrying:
        """Return tenacity's loop over the tries; each raises ``SendAgain`` to ask for another."""
        return AsyncRetrying(
            retry=retry_if_exception_type(SendAgain),
            wait=lambda _: self._failure.wait,
            stop=lambda state: self._waited + state.upcoming_sleep > self._patience,
            sleep=self._wait,
            retry_error_callback=self._give_up,
        )

    def failed(self, error: Exception, details: ErrorDetails, error_class: ErrorClass) -> NoReturn:
        """Raise ``SendAgain``, ``error`` itself, or ``ModelUnavailableError``.

        The last one when no other request on the model could succeed either.
        """
        if details.unusable:
            # In the provider's words, where a library's own say nothing.
            shown = UnusableAnswerError(self._model, details.message)
            shown.__cause__ = error
            error = shown
        match error_class.kind:
            case ErrorKind.RATE_LIMITED:
                wait = self._after_refusal(details.advice)
            case ErrorKind.TRANSIENT:
                wait = self._after_transient(error, details)
            case ErrorKind.UNAVAILABLE:
                self._unavailable(
                    error, details, error_class.unavailable or UnavailableReason.MODEL
                )
            case ErrorKind.UNEXPLAINED if self._never_explained():
                self._unavailable(
                    error, details, error_class.unavailable or UnavailableReason.ADDRESS
                )
            case _:
                raise error
        self._failure = SendAgain(error, wait, error_class.reason, details.status)
        raise self._failure from error

    def _after_refusal(self, advice: Advice) -> float:
        """Return the seconds to wait after the provider refused the request."""
        self._transient = 0
        self._refusals += 1
        if advice.wait is not None and advice.wait > self._patience:
            raise ModelUnavailableError(too_long(self._model, advice.wait, self._patience))
        self._limiter.refused(advice)
        return after_refusal(self._refusals - 1, advice.wait, self._random)

    def _after_transient(self, error: Exception, details: ErrorDetails) -> float:
        """Return the seconds to wait after a transient failure."""
        self._transient += 1
        if not self._limiter.proven:
            if details.certificate:
                self._unavailable(error, details, UnavailableReason.CERTIFICATE)
            if details.connecting and self._transient >= _UNREACHED:
                self._unavailable(error, details, UnavailableReason.ADDRESS)
        if self._transient >= _TRIES:
            if details.page and not self._limiter.proven:
                self._unavailable(error, details, UnavailableReason.ADDRESS)
            error.add_note(f"given up after {self._transient} tries in a row")
            raise error
        return after_transient(self._transient - 1, self._random)

    def _never_explained(self) -> bool:
        """Count a rejection without a reason; tell whether the model has given nothing else."""
        return not self._limiter.proven and self._limiter.rejected() >= _UNEXPLAINED

    def _unavailable(
        self, error: Exception, details: ErrorDetails, reason: UnavailableReason
    ) -> NoReturn:
        raise ModelUnavailableError(unavailable(self._model, details, reason)) from error

    def _give_up(self, state: RetryCallState) -> NoReturn:
        error = self._failure.error
        error.add_note(
            f"given up after {self._refusals} refusals and {self._waited:.0f} s of waiting"
        )
        raise error

    async def _wait(self, seconds: float) -> None:
        """Wait before the next try; what is sent again is in the run's record, cancelled or not."""
        failure, failed_at, started = self._failure, datetime.now(UTC), time.monotonic()
        self._limiter.waits.count(Gauge.RETRIES)
        try:
            with self._limiter.waits.until(failed_at.timestamp() + seconds):
                await asyncio.sleep(seconds)
        finally:
            waited = time.monotonic() - started
            self._waited += waited
            self._retries.append(Retry(failed_at, failure.reason, failure.status, waited))


def after_transient(tries: int, random: Random) -> float:
    """Return seconds after ``tries`` failures in a row: full jitter over 0.5 s * 2^n, at most 30 s.

    Full jitter: M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
    """
    return random() * min(_TRANSIENT_LONGEST, _TRANSIENT_BASE * 2.0 ** min(tries, 16))


def after_refusal(refusals: int, advised: float | None, random: Random) -> float:
    """Return seconds after ``refusals`` in a row, the last of which ``advised`` to wait so long.

    Never less than advised; a little more, and the more the oftener, so that those who were refused
    together do not come back together.
    """
    if advised is None:
        return random() * min(_REFUSAL_LONGEST, _REFUSAL_BASE * 2.0 ** min(refusals, 16))
    more = max(0.25, 0.1 * advised) * 2.0 ** min(refusals, _DOUBLINGS)
    return advised + random() * min(_TRANSIENT_LONGEST, more)


def _advice(trace: RequestTrace) -> Advice:
    """Read the headers of a success, which hardly ever say that nothing is left."""
    if trace.headers is None or "0" not in trace.headers.values():
        return NO_ADVICE
    return advice_of(dict(trace.headers))


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
