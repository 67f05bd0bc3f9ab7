"""Errors of a run, as the clients of each served protocol are to read them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded, UserError

from pytest_siren.evaluation.accounts import CostUnknownError, UsageUnknownError
from pytest_siren.evaluation.isolation import one_line
from pytest_siren.evaluation.models import ModelUnavailableError, NoModelError
from pytest_siren.evaluation.world import RunOverError
from pytest_siren.serving.exchange import RefusedError

RUN_OVER = "the run has ended: it calls no tool and asks no model any more"
_LIMITS = (UsageLimitExceeded, CostUnknownError, UsageUnknownError)
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def refusal_for(error: BaseException) -> RefusedError:
    """Return what the client is to read of ``error``.

    What a provider answered keeps its status, so that an agent deals with it as it would without
    pytest-siren between them.
    """
    match error:
        case RefusedError():
            return error
        case RunOverError():
            return RefusedError(404, str(error), code="run_over")
        case asyncio.CancelledError():
            return RefusedError(404, RUN_OVER, code="run_over")
        case NoModelError():
            return RefusedError(400, str(error), code="no_model")
        case ModelUnavailableError():
            return RefusedError(403, str(error), code="model_unavailable")
        case UserError():
            return RefusedError(400, one_line(error), code="unsupported_value")
        case ModelHTTPError(status_code=status) if 400 <= status < 600:
            return RefusedError(status, one_line(error), code="model_error")
    if isinstance(error, _LIMITS):
        return RefusedError(403, one_line(error), code="run_limit")
    return RefusedError(500, f"the run's model failed: {one_line(error)}", code="model_error")


def openai_error(refused: RefusedError) -> dict[str, Any]:
    """Return the body of an error in OpenAI's protocols."""
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    error = {"message": refused.message, "type": kind, "param": refused.param}
    return {"error": {**error, "code": refused.code}}


def anthropic_error(refused: RefusedError) -> dict[str, Any]:
    """Return the body of an error in Anthropic's protocol."""
    kind = _ANTHROPIC_TYPES.get(refused.status, "api_error")
    if kind == "api_error" and refused.status < 500:
        kind = "invalid_request_error"
    return {"type": "error", "error": {"type": kind, "message": refused.message}}


def mcp_error(refused: RefusedError) -> dict[str, Any]:
    """Return the body of an error in MCP, whose request was not read."""
    error = {"code": INVALID_REQUEST, "message": refused.message}
    return {"jsonrpc": "2.0", "id": None, "error": error}


INVALID_REQUEST = -32600
"""JSON-RPC's code for what is no request that could be answered."""


def body_of(refused: RefusedError, place: str) -> bytes:
    """Return the body of an error at ``place``, such as ``v1/responses``, in its protocol."""
    if place.startswith("anthropic"):
        shape = anthropic_error
    elif place.startswith("mcp"):
        shape = mcp_error
    else:
        shape = openai_error
    return json.dumps(shape(refused)).encode()
