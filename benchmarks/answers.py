"""Bodies of the server's answers, made once, in the form of both of OpenAI's APIs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_TOKENS = (100, 20)

TOOL_RESULTS = {
    "/v1/chat/completions": (b'"role":"tool"', b'"role": "tool"'),
    "/v1/responses": (b'"type":"function_call_output"', b'"type": "function_call_output"'),
}
"""What stands once in a request for every tool result that the conversation has so far.

Within a JSON string the quotes are escaped, so texts cannot be taken for it.
"""


class Answers:
    """The whole HTTP answers to a conversation: each of ``calls`` in its turn, then ``text``.

    ``calls`` are pairs of a tool's name and its arguments.
    """

    def __init__(self, calls: Sequence[tuple[str, dict[str, Any]]] = (), text: str = "Done."):
        turns = range(len(calls) + 1)
        self._by_path = {
            "/v1/chat/completions": [http(200, _chat(turn, calls, text)) for turn in turns],
            "/v1/responses": [http(200, _response(turn, calls, text)) for turn in turns],
        }

    def answer(self, path: str, body: bytes) -> bytes | None:
        """Return the answer to ``body``; ``None`` when nothing is served at ``path``."""
        turns = self._by_path.get(path)
        if turns is None:
            return None
        results = sum(body.count(mark) for mark in TOOL_RESULTS[path]) if len(turns) > 1 else 0
        return turns[min(results, len(turns) - 1)]


def http(status: int, content: Any, headers: str = "") -> bytes:
    """Return a whole HTTP answer with ``content`` as JSON. ``headers`` are lines with CRLF."""
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n"
        f"content-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_REASONS = {200: "OK", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


def _chat(turn: int, calls: Sequence[tuple[str, dict[str, Any]]], text: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if turn < len(calls):
        name, arguments = calls[turn]
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": f"call_{turn}", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    reason = "tool_calls" if turn < len(calls) else "stop"
    sent, received = _TOKENS
    return {
        "id": f"chatcmpl-{turn}",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": received,
            "total_tokens": sent + received,
        },
    }


def _response(turn: int, calls: Sequence[tuple[str, dict[str, Any]]], text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item: dict[str, Any] = {"type": "message", "role": "assistant", "content": [part]}
    if turn < len(calls):
        name, arguments = calls[turn]
        item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
        item["call_id"] = f"call_{turn}"
    sent, received = _TOKENS
    return {
        "id": f"resp_{turn}",
        "object": "response",
        "created_at": 1700000000,
        "model": "gpt-4o-mini",
        "status": "completed",
        "output": [{"id": f"item_{turn}", "status": "completed", **item}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": sent,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": received,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sent + received,
        },
    }
