"""How models are asked in a run: counted, limited and observed, whoever asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from pytest_siren.evaluation.components import implements
from pytest_siren.evaluation.models import BillsErrors, ModelUnavailableError
from pytest_siren.evaluation.observing import Observing
from pytest_siren.evaluation.spending import Accounts, Role


@dataclass
class Asking:
    """Asks the models of one run."""

    limits: UsageLimits
    accounts: Accounts = field(default_factory=Accounts)
    observing: Observing = field(default_factory=Observing)
    _unavailable: tuple[BaseException, str] | None = None

    @contextmanager
    def of_model(self, model_id: str) -> Iterator[None]:
        """Note of an error in this block that says that a model is unavailable which one it is."""
        try:
            yield
        except ModelUnavailableError as error:
            self._unavailable = error, model_id
            raise

    def unavailable(self, error: BaseException) -> str | None:
        """Return the model that is unavailable, if that is what ``error`` says."""
        if not isinstance(error, ModelUnavailableError):
            return None
        if self._unavailable is not None and self._unavailable[0] is error:
            return self._unavailable[1]
        return self.accounts.model_id

    def check(self) -> None:
        """Raise ``UsageLimitExceeded`` when the run has used more than its limits.

        Raises ``CostUnknownError`` or ``UsageUnknownError`` when nobody can tell.
        """
        self.accounts.total.check(self.limits)

    def check_before_request(self) -> None:
        """Raise as ``check`` does, and when no further request is allowed."""
        if not self.accounts.final:
            self.check()
            self.limits.check_before_request(self.accounts.total.usage)

    async def ask(
        self,
        role: Role,
        model_id: str,
        model: Model,
        messages: Sequence[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the answer of ``model``, with its cost in ``usage``.

        Raises what the model and what observers raise.
        """
        account = self.accounts.of(role, model_id)
        observer = self.observing if self.observing.active else None
        if observer is not None:
            await observer.request_before(role, model_id, messages, parameters.function_tools)
        began = time.monotonic()
        try:
            with self.of_model(model_id):
                response = await model.request(list(messages), settings, parameters)
        except BaseException as error:
            self._bill(model, role, model_id)
            if observer is not None:
                seconds = time.monotonic() - began
                await observer.request_after(role, model_id, messages, None, error, seconds)
            raise
        self._bill(model, role, model_id)
        account.add(response)
        if observer is not None:
            seconds = time.monotonic() - began
            await observer.request_after(role, model_id, messages, response, None, seconds)
        return response

    def _bill(self, model: Model, role: Role, model_id: str) -> None:
        if implements(model, BillsErrors):
            for billed in model.take_billed():
                self.accounts.of(role, model_id).add(billed)
