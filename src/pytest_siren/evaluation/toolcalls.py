"""Decoding of the tool calls that models write."""

from __future__ import annotations

import json

from pydantic_ai.messages import ToolCallPart

from pytest_siren.evaluation.tasks import ToolCall


def decode_call(part: ToolCallPart) -> ToolCall:
    """Return the call that ``part`` asks for; undecodable arguments become its problem."""
    args = part.args
    if isinstance(args, str):
        try:
            args = json.loads(args) if args.strip() else {}
        except ValueError as error:
            return _undecoded(part, f"the arguments are not valid JSON: {error}")
    if args is None:
        args = {}
    if not isinstance(args, dict):
        kind = type(args).__name__
        return _undecoded(part, f"the arguments must be a JSON object, not {kind}")
    return ToolCall(part.tool_name, args, part.tool_call_id)


def _undecoded(part: ToolCallPart, problem: str) -> ToolCall:
    return ToolCall(part.tool_name, {}, part.tool_call_id, problem)
