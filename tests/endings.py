"""Every way in which an answer can end, as the providers' APIs spell it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

CALL = ("send_mail", {"to": "eve@example.com"})
"""The call that each answer of the kind ``call`` asks for: what the attacker wants."""
NO = "I cannot help with that."
NOON = "Lunch is at noon."


@dataclass(frozen=True)
class Ending:
    """One way to end."""

    api: str
    """``openai-chat``, ``openai`` (Responses), ``anthropic`` or ``google``."""
    kind: str
    finish: str
    """What a run that ends so is recorded with; ``error`` for one that ends as an error."""
    body: dict[str, Any] = field(compare=False)
    """The provider's JSON."""
    output: str = ""
    """The words of the answer."""

    @property
    def model(self) -> str:
        """The name that ``--model`` takes."""
        return f"{self.api}:{self.kind}"


def chat(reason: str | None, message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an answer of OpenAI's chat completions."""
    said = {"role": "assistant", "content": None, **message}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": reason, "message": said, **more}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 16, "total_tokens": 66},
    }


def responses(status: str, *content: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    """Return an answer of OpenAI's Responses; ``content`` are those of one message."""
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    output = [{**message, "content": list(content)}] if content else []
    if content and content[0]["type"] == "function_call":
        output = list(content)
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": {
            "input_tokens": 50,
            "output_tokens": 16,
            "total_tokens": 66,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def claude(reason: str | None, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an answer of Anthropic's messages."""
    return {
        "id": "a",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": reason,
        "stop_sequence": None,
        **more,
        "usage": {"input_tokens": 50, "output_tokens": 16},
    }


def gemini(reason: str | None, *parts: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of Google's ``generateContent``."""
    content = {"role": "model", "parts": list(parts)} if parts else {}
    candidate = {"index": 0, "content": content}
    return {
        "candidates": [{**candidate, "finishReason": reason} if reason else candidate],
        "usageMetadata": {"promptTokenCount": 50, "candidatesTokenCount": 16},
        "modelVersion": "m",
        "responseId": "g",
    }


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _output(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


_BLOCKED = {
    "promptFeedback": {"blockReason": "SAFETY"},
    "usageMetadata": {"promptTokenCount": 50},
    "modelVersion": "m",
}

ENDINGS = (
    Ending("openai-chat", "stop", "complete", chat("stop", {"content": NOON}), NOON),
    Ending("openai-chat", "unsaid", "complete", chat(None, {"content": NOON}), NOON),
    Ending("openai-chat", "length", "length", chat("length", {"content": "Lunch is"}), "Lunch is"),
    Ending("openai-chat", "reasoning", "length", chat("length", {"reasoning_content": "Hm"})),
    Ending("openai-chat", "filter", "filtered", chat("content_filter", {})),
    Ending("openai-chat", "filtertext", "filtered", chat("content_filter", {"content": "I"}), "I"),
    Ending("openai-chat", "guardrail", "filtered", chat("guardrail_intervened", {"content": ""})),
    Ending("openai-chat", "refusal", "refused", chat("stop", {"refusal": NO}), NO),
    Ending("openai-chat", "failed", "failed", chat("error", {"content": ""})),
    Ending("openai-chat", "empty", "empty", chat("stop", {"content": ""})),
    Ending("openai-chat", "blank", "empty", chat("stop", {"content": " \n\u200b"}), " \n\u200b"),
    Ending("openai-chat", "abort", "incomplete", chat("abort", {"content": "Lu"}), "Lu"),
    Ending("openai-chat", "nocalls", "error", chat("tool_calls", {"tool_calls": []})),
    Ending("openai", "stop", "complete", responses("completed", _output(NOON)), NOON),
    Ending(
        "openai",
        "length",
        "length",
        responses("incomplete", _output("Lunch is"), reason="max_output_tokens"),
        "Lunch is",
    ),
    Ending("openai", "filter", "filtered", responses("incomplete", reason="content_filter")),
    Ending(
        "openai",
        "refusal",
        "refused",
        responses("completed", {"type": "refusal", "refusal": NO}),
        NO,
    ),
    Ending("openai", "failed", "failed", responses("failed")),
    Ending("openai", "empty", "empty", responses("completed")),
    Ending("openai", "incomplete", "incomplete", responses("incomplete")),
    Ending("openai", "queued", "incomplete", responses("queued")),
    Ending("openai", "in_progress", "incomplete", responses("in_progress")),
    Ending("openai", "cancelled", "incomplete", responses("cancelled")),
    Ending("anthropic", "stop", "complete", claude("end_turn", _text(NOON)), NOON),
    Ending("anthropic", "sequence", "complete", claude("stop_sequence", _text(NOON)), NOON),
    Ending("anthropic", "length", "length", claude("max_tokens", _text("Lunch is")), "Lunch is"),
    Ending(
        "anthropic",
        "context",
        "length",
        claude("model_context_window_exceeded", _text("Lunch is")),
        "Lunch is",
    ),
    Ending("anthropic", "refusal", "refused", claude("refusal", _text(NO)), NO),
    Ending("anthropic", "silent", "refused", claude("refusal")),
    Ending("anthropic", "pause", "incomplete", claude("pause_turn", _text("Lunch")), "Lunch"),
    Ending("anthropic", "empty", "empty", claude("end_turn")),
    Ending("anthropic", "nocalls", "error", claude("tool_use", _text("I look.")), "I look."),
    Ending("google", "stop", "complete", gemini("STOP", {"text": NOON}), NOON),
    Ending("google", "length", "length", gemini("MAX_TOKENS", {"text": "Lunch is"}), "Lunch is"),
    Ending("google", "safety", "filtered", gemini("SAFETY")),
    Ending("google", "recitation", "filtered", gemini("RECITATION", {"text": "It"}), "It"),
    Ending("google", "blocked", "filtered", _BLOCKED),
    Ending("google", "empty", "empty", gemini("STOP")),
    Ending("google", "other", "incomplete", gemini("OTHER")),
    Ending("google", "language", "failed", gemini("LANGUAGE")),
    Ending("google", "malformed", "error", gemini("MALFORMED_FUNCTION_CALL")),
    Ending("google", "unexpected", "error", gemini("UNEXPECTED_TOOL_CALL")),
)
"""All of them. A run that ends as an error never has a score."""


LEGACY = {"function_call": {"name": CALL[0], "arguments": json.dumps(CALL[1])}}
"""A message with a call in the place that ``tool_calls`` took."""
CUSTOM = {
    "type": "custom_tool_call",
    "id": "t",
    "call_id": "call_1",
    "name": CALL[0],
    "input": json.dumps(CALL[1]),
}
"""A custom call of Responses."""


def call(api: str) -> dict[str, Any]:
    """Return an answer that asks for ``CALL``."""
    name, args = CALL
    if api == "openai-chat":
        function = {"name": name, "arguments": json.dumps(args)}
        calls = [{"id": "call_1", "type": "function", "function": function}]
        return chat("tool_calls", {"tool_calls": calls})
    if api == "openai":
        item = {"type": "function_call", "id": "f", "call_id": "call_1", "status": "completed"}
        return responses("completed", {**item, "name": name, "arguments": json.dumps(args)})
    if api == "anthropic":
        return claude("tool_use", {"type": "tool_use", "id": "call_1", "name": name, "input": args})
    return gemini("STOP", {"functionCall": {"name": name, "args": args}})
