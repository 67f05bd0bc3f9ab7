"""What a model's response says: its words, and how it ended.

pydantic-ai normalizes what providers report to ``ModelResponse.finish_reason`` where it knows the
reason, keeps the provider's own word in ``provider_details["finish_reason"]``, and the words of a
refusal in ``provider_details["refusal"]``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from unicodedata import category

from pydantic_ai.messages import (
    FilePart,
    ModelMessage,
    ModelResponse,
    NativeToolCallPart,
    ToolCallPart,
)

from pytest_siren.evaluation.scores import Finish
from pytest_siren.evaluation.tasks import ToolCall

_COMPLETE = frozenset(
    {
        *("stop", "end_turn", "stop_sequence", "eos", "eos_token", "end", "done", "normal"),
        *("complete", "completed", "finish", "finished", "compaction", "finish_reason_unspecified"),
    }
)
_LENGTH = frozenset(
    {
        *("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
        *("model_context_window_exceeded", "context_length_exceeded", "continuation"),
    }
)
_FILTERED = frozenset(
    {
        *("content_filter", "content_filtered", "safety", "recitation", "blocklist"),
        *("prohibited_content", "spii", "image_safety", "image_prohibited_content"),
        *("model_armor", "guardrail_intervened", "sensitive", "moderation", "blocked"),
        "error_toxic",
    }
)
_FAILED = frozenset({"error", "failed", "server_error", "insufficient_system_resource"})
_CALLS = frozenset(
    {
        *("tool_calls", "tool_call", "tool_use", "function_call", "malformed_function_call"),
        *("unexpected_tool_call", "too_many_tool_calls", "malformed_tool_use"),
    }
)
_REFUSAL = "refusal"
_SILENT = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me", "Mc"})
"""Categories of Unicode: controls, spaces, marks."""
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols without ink: the fillers of Hangul, the empty pattern of Braille."""


class ToolCallLostError(RuntimeError):
    """The model asked for a tool, and nothing says for which."""


def finish_of(response: ModelResponse) -> Finish:
    """Return how ``response`` ended."""
    details = response.provider_details or {}
    own, known = _own_reason(response), response.finish_reason
    if details.get(_REFUSAL) or own == _REFUSAL:
        return Finish.REFUSED
    if known == "content_filter" or details.get("block_reason") or own in _FILTERED:
        return Finish.FILTERED
    if known == "length" or own in _LENGTH:
        return Finish.LENGTH
    if own == "cancelled" or response.state != "complete":
        return Finish.INCOMPLETE
    if known == "error" or own in _FAILED:
        return Finish.FAILED
    if known is None and own and own not in _COMPLETE | _CALLS:
        return Finish.INCOMPLETE
    return Finish.COMPLETE if _says_something(response) else Finish.EMPTY


def finish_of_run(messages: Sequence[ModelMessage]) -> tuple[Finish, str | None]:
    """Return how the last response of ``messages`` ended, and the provider's own word for that.

    Without any response nothing was said.
    """
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            own = (message.provider_details or {}).get("finish_reason") or message.finish_reason
            return finish_of(message), None if own is None else str(own)
    return Finish.EMPTY, None


def finishes_of(messages: Sequence[ModelMessage]) -> dict[str, int]:
    """Return how the responses of ``messages`` ended, to their number."""
    responses = (message for message in messages if isinstance(message, ModelResponse))
    return dict(Counter(finish_of(response).value for response in responses))


def is_cut_off(response: ModelResponse) -> bool:
    """Whether a limit of tokens ended ``response``, so that its last part may be incomplete."""
    return response.finish_reason == "length" or _own_reason(response) in _LENGTH


def words_of(response: ModelResponse) -> str:
    """Return the text of ``response``; of a refusal without text, the words of the refusal."""
    text = response.text or ""
    if has_words(text):
        return text
    refusal = (response.provider_details or {}).get(_REFUSAL)
    return refusal if isinstance(refusal, str) and refusal else text


def has_words(text: str) -> bool:
    """Whether ``text`` holds anything but spaces, marks alone, and what does not show."""
    return any(char not in _BLANK and category(char) not in _SILENT for char in text)


def check_calls(response: ModelResponse) -> None:
    """Raise ``ToolCallLostError`` when ``response`` asks for a tool and holds no call.

    Some providers send an empty list of calls, or drop a call that they could not read.
    """
    own = _own_reason(response)
    if response.finish_reason != "tool_call" and own not in _CALLS:
        return
    if any(isinstance(part, ToolCallPart | NativeToolCallPart) for part in response.parts):
        return
    word = (response.provider_details or {}).get("finish_reason") or response.finish_reason
    raise ToolCallLostError(
        f"the model asked for a tool (finish reason {word!r}), "
        "but its answer holds no call that can be executed"
    )


def _own_reason(response: ModelResponse) -> str:
    """Return the provider's own reason, spelled as most providers do; empty without one."""
    own: Any = (response.provider_details or {}).get("finish_reason")
    return own.strip().lower().replace("-", "_") if isinstance(own, str) else ""


def _says_something(response: ModelResponse) -> bool:
    return has_words(response.text or "") or any(
        isinstance(part, ToolCallPart | FilePart) for part in response.parts
    )


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
