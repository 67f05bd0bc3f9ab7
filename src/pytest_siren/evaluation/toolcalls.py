"""Decoding of the tool calls that models write."""

from __future__ import annotations

import json
from typing import Any

from pydantic_ai.messages import ModelResponse, ToolCallPart

from pytest_siren.evaluation.responses import is_cut_off
from pytest_siren.evaluation.tasks import ToolCall

_DEEPEST = 100
"""Levels of nesting in arguments; whoever passes them on may follow no more."""
_TOO_DEEP = "the arguments are nested too deeply"
_CUT_OFF = "the answer was cut off in this call, so its arguments may be incomplete"


def decode_calls(response: ModelResponse) -> tuple[ToolCall, ...]:
    """Return the calls that ``response`` asks for.

    Of an answer that was cut off, the last part may be incomplete: a call there is only decoded
    when its arguments are the text of a whole JSON object.
    """
    cut_off = is_cut_off(response)
    last = response.parts[-1] if response.parts else None
    calls = (part for part in response.parts if isinstance(part, ToolCallPart))
    return tuple(
        _undecoded(part, _CUT_OFF)
        if cut_off and part is last and not _is_text(part)
        else decode_call(part)
        for part in calls
    )


def decode_call(part: ToolCallPart) -> ToolCall:
    """Return the call that ``part`` asks for; undecodable arguments become its problem."""
    args: Any = part.args
    if isinstance(args, str):
        try:
            args = json.loads(args) if args.strip() else {}
        except ValueError as error:
            return _undecoded(part, f"the arguments are not valid JSON: {error}")
        except RecursionError:
            return _undecoded(part, _TOO_DEEP)
    if args is None:
        args = {}
    if not isinstance(args, dict):
        kind = type(args).__name__
        return _undecoded(part, f"the arguments must be a JSON object, not {kind}")
    if _is_deep(args):
        return _undecoded(part, _TOO_DEEP)
    return ToolCall(part.tool_name, args, part.tool_call_id)


def _is_text(part: ToolCallPart) -> bool:
    return isinstance(part.args, str) and bool(part.args.strip())


def _is_deep(args: dict[str, Any]) -> bool:
    """Whether ``args`` has more than ``_DEEPEST`` levels; level by level, without recursion."""
    level: list[Any] = [args]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
        if not below:
            return False
        level = below
    return any(isinstance(value, dict | list) for value in level)


def _undecoded(part: ToolCallPart, problem: str) -> ToolCall:
    return ToolCall(part.tool_name, {}, part.tool_call_id, problem)
