"""Types of errors are asked for by the name of their class, or of one above it (P39, P58)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import exceptions
from pydantic_ai.exceptions import ModelHTTPError

from pytest_siren.evaluation.run import ErrorInfo
from pytest_siren.records import known_bases

CATEGORIES = (
    *(None, exceptions.ModelRateLimitError, exceptions.ModelQuotaExceededError),
    *(exceptions.ModelUnavailableError, exceptions.ModelOverloadedError),
    *(exceptions.ModelServerError, exceptions.ModelContextWindowExceededError),
    *(exceptions.ModelRequestRejectedError, exceptions.ModelAuthenticationError),
    exceptions.ModelNotFoundError,
)


@pytest.mark.parametrize("category", CATEGORIES, ids=str)
def test_every_http_error_is_derived_from_the_one_that_sweeps_try_again(category: Any) -> None:
    raised = ModelHTTPError.for_category(category, status_code=400, model_name="model")
    error = ErrorInfo.of(raised)
    assert not [name for name in error.bases if name.startswith("_") or name == error.type]
    assert "ModelHTTPError" in {error.type, *error.bases}
    assert not {"Exception", "BaseException", "object"} & {*error.bases}
    # What records of earlier versions hold is enough.
    assert "ModelHTTPError" in {error.type, *known_bases(error.type)}


def test_classes_of_python_are_known_by_their_names_and_others_are_not() -> None:
    assert known_bases("TimeoutError") == {"OSError"}
    assert known_bases("SomebodysError") == frozenset()
    assert known_bases("ModelHTTPError") == {"ModelAPIError", "AgentRunError", "RuntimeError"}
