"""Sends a request again that an endpoint refused, so that it has done nothing yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from random import random
from typing import NoReturn

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from pytest_siren.evaluation.isolation import waiting
from pytest_siren.evaluation.models import Retry
from pytest_siren.models.ratelimit.error_class import advice_of
from pytest_siren.models.ratelimit.retrying_model import SendAgain, after_refusal, after_transient

REFUSALS = {429: "rate limit", 503: "overloaded"}
"""Statuses with which an endpoint says that it has not begun, and how records call them."""
_TRIES = 6
"""Tries in a row at an endpoint that is overloaded and does not say for how long."""
_UNREACHED = 4
"""Those where no connection comes about: 3.5 s at most."""


class Persistence:
    """The tries of one request, which wait at most ``patience`` seconds in all.

    What is sent again is added to ``retries``; the run only waits meanwhile, so that none of its
    time limits runs on.
    """

    def __init__(self, patience: float, retries: list[Retry]) -> None:
        self._patience, self._retries = patience, retries
        self._waited = 0.0
        self._tries: dict[str, int] = {}
        self._failure: SendAgain

    def attempts(self) -> AsyncRetrying:
        """Return tenacity's loop over the tries; each raises ``SendAgain`` to ask for another."""
        return AsyncRetrying(
            retry=retry_if_exception_type(SendAgain),
            wait=lambda _: self._failure.wait,
            stop=lambda state: self._waited + state.upcoming_sleep > self._patience,
            sleep=self._wait,
            retry_error_callback=self._give_up,
        )

    def refused(self, error: Exception, status: int, headers: Mapping[str, str]) -> NoReturn:
        """Raise ``SendAgain`` for an answer of ``REFUSALS``, or ``error`` if it is one too many."""
        reason = REFUSALS[status]
        tries = self._count(reason)
        advised = advice_of(headers).wait
        if advised is None and status == 503:
            self._again(error, reason, status, tries, _TRIES)
        wait = after_refusal(tries - 1, advised, random)
        self._failure = SendAgain(error, wait, reason, status)
        raise self._failure from error

    def unreached(self, error: Exception) -> NoReturn:
        """Raise ``SendAgain`` where no connection came about, or ``error`` after some tries."""
        self._again(error, "connection", None, self._count("connection"), _UNREACHED)

    def _again(
        self, error: Exception, reason: str, status: int | None, tries: int, most: int
    ) -> NoReturn:
        if tries >= most:
            raise error
        self._failure = SendAgain(error, after_transient(tries - 1, random), reason, status)
        raise self._failure from error

    def _count(self, reason: str) -> int:
        self._tries[reason] = self._tries.get(reason, 0) + 1
        return self._tries[reason]

    async def _wait(self, seconds: float) -> None:
        """Wait before the next try; what is sent again is in the run's record, cancelled or not."""
        failure, failed_at, started = self._failure, datetime.now(UTC), time.monotonic()
        try:
            with waiting():
                await asyncio.sleep(seconds)
        finally:
            waited = time.monotonic() - started
            self._waited += waited
            self._retries.append(Retry(failed_at, failure.reason, failure.status, waited))

    def _give_up(self, state: RetryCallState) -> NoReturn:
        error, wait = self._failure.error, self._failure.wait
        raise type(error)(
            f"{error}; given up after {self._waited:.0f} s of waiting, for the next try would be "
            f"{wait:.0f} s later (agent.config.patience is {self._patience:g} s)"
        ) from error
