"""Records attempts as an implementation of the hook that any plugin may implement."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pytest

from pytest_siren.evaluation.isolation import UserInterrupt, one_line, undisturbed
from pytest_siren.evaluation.run import ErrorInfo
from pytest_siren.evaluation.scores import Status
from pytest_siren.jobs.records.attempt import result_of
from pytest_siren.payloads import RunAttempt
from pytest_siren.session.items.report import redactor, screened, without_secrets
from pytest_siren.session.recording.recorder import JsonRecorder

Guard: TypeAlias = Callable[[Awaitable[object]], Awaitable[BaseException | None]]
"""Awaits what a hook returned, within the limits of a run, and returns what that raises."""


@dataclass(eq=False)
class Recording(Awaitable[None]):
    """What the hook returns for an attempt: once awaited, the attempt is recorded."""

    _record: Callable[[], Awaitable[None]]

    def __await__(self) -> Generator[Any, None, None]:
        return self._record().__await__()


@dataclass(eq=False)
class AttemptRecording:
    """Lets all others take note of an attempt, and records it whatever they did.

    A score of which a hook could not take note is an error, as of any other part of the run.
    """

    config: pytest.Config
    recorder: JsonRecorder
    guard: Guard
    _recorded: dict[tuple[str, str], RunAttempt] = field(default_factory=dict)
    """By run and attempt, until ``recorded`` asks for it."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_siren_attempt_record(
        self, attempt: RunAttempt
    ) -> Generator[None, list[object], list[object]]:
        """Return what records ``attempt``, once what the others returned has been awaited."""
        returned: list[object] = []
        failed: BaseException | None = None
        try:
            returned = yield
        except UserInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - becomes the error of the run
            failed = error

        async def record() -> None:
            await self._record(attempt, await self._awaited(returned, failed))

        return [Recording(record)]

    async def recorded(self, attempt: RunAttempt, hook: Callable[..., object]) -> RunAttempt:
        """Call ``hook`` with ``attempt``, and return the attempt as it was recorded.

        It is recorded here if another plugin, around this one, kept the hook from doing so. Raises
        ``RecordingError``, and ``UserInterrupt``.
        """
        returned: object = None
        raised: BaseException | None = None
        try:
            returned = hook(attempt=attempt)
        except UserInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - becomes the error of the run
            raised = error
        others = returned if isinstance(returned, list) else [returned]
        for one in [one for one in others if isinstance(one, Recording)]:
            await one
        others = [one for one in others if not isinstance(one, Recording)]
        failed = await self._awaited(others, raised)
        key = (attempt.run.identity, attempt.run_id)
        if key not in self._recorded:
            await self._record(attempt, failed)
        elif failed is not None:
            self._warn(failed)
        return self._recorded.pop(key)

    async def _awaited(
        self, returned: list[object], error: BaseException | None
    ) -> BaseException | None:
        """Wait for what hooks returned, and return the first exception."""
        for one in returned:
            if inspect.isawaitable(one):
                found = await self.guard(one)
                error = error or found
        return error

    async def _record(self, attempt: RunAttempt, error: BaseException | None) -> None:
        if error is not None:
            attempt = self._failed(attempt, error)
        await undisturbed(self.recorder.record(attempt))
        self._recorded[attempt.run.identity, attempt.run_id] = attempt

    def _failed(self, attempt: RunAttempt, error: BaseException) -> RunAttempt:
        outcome = attempt.outcome
        if outcome.status is not Status.SCORED:
            self._warn(error)
            return attempt
        outcome = replace(
            outcome, status=Status.ERROR, error=ErrorInfo.of(error), benign=None, attack=None
        )
        outcome = without_secrets(outcome, redactor(self.config))
        attempt = replace(attempt, outcome=outcome, passed=None, record=None)
        return replace(attempt, record=result_of(attempt))

    def _warn(self, error: BaseException) -> None:
        text = screened(one_line(error), redactor(self.config))
        warnings.warn(pytest.PytestWarning(f"pytest_siren_attempt_record: {text}"), stacklevel=2)
