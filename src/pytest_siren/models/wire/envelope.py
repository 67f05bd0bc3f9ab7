"""What stands around a model's words in an answer, made what libraries expect.

Gateways leave out ids, send times as text, or arguments of calls as objects. A library refuses the
whole answer for that, though the words are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_siren.models.wire.apis import CHAT, GENERATE, MESSAGES, RESPONSES, Api

_LATEST = 253_402_300_799
"""The end of the year 9999; pydantic-ai takes no later time, be it in milliseconds."""
_TEXTS = ("reasoning", "reasoning_content", "refusal")
"""Of a message: libraries expect text, if anything."""


def complete(api: Api, body: dict[str, Any]) -> bool:
    """Complete ``body``, an answer, in place; tell whether it was changed.

    Nothing that the model said is changed; calls move to where libraries look for them.
    """
    edit = _Edit()
    if api is CHAT:
        _chat(body, edit)
    elif api is RESPONSES:
        _response(body, edit)
    elif api is MESSAGES:
        edit.put(body, "type", "message")
        edit.put(body, "role", "assistant")
        edit.text(body, "id")
        edit.text(body, "model")
        if not isinstance(body.get("stop_reason"), str | None):
            edit.put(body, "stop_reason", str(body["stop_reason"]))
    elif api is GENERATE:
        _candidates(body, edit)
    return edit.made


@dataclass
class _Edit:
    """Changes objects, and knows whether it did."""

    made: bool = False

    def put(self, holder: dict[str, Any], key: str, value: Any) -> None:
        # True is no number here, though Python finds it equal to 1.
        same = key in holder and type(holder[key]) is type(value) and holder[key] == value
        if not same:
            holder[key] = value
            self.made = True

    def drop(self, holder: dict[str, Any], key: str) -> None:
        if holder.get(key) is not None:
            del holder[key]
            self.made = True

    def text(self, holder: dict[str, Any], key: str) -> None:
        value = holder.get(key)
        if not isinstance(value, str):
            self.put(holder, key, "" if value is None else str(value))


def _chat(body: dict[str, Any], edit: _Edit) -> None:
    edit.put(body, "object", "chat.completion")
    edit.text(body, "id")
    edit.text(body, "model")
    _time(body, "created", edit)
    for key in ("system_fingerprint", "service_tier"):
        if not isinstance(body.get(key), str):
            edit.drop(body, key)
    for place, choice in enumerate(body["choices"]):
        if not isinstance(choice, dict):
            continue
        if type(choice.get("index")) is not int:
            edit.put(choice, "index", place)
        if not isinstance(choice.get("finish_reason"), str | None):
            edit.put(choice, "finish_reason", str(choice["finish_reason"]))
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, Mapping) or not isinstance(logprobs.get("content"), list):
            edit.drop(choice, "logprobs")
        if isinstance(choice.get("message"), dict):
            _message(choice["message"], edit)


def _response(body: dict[str, Any], edit: _Edit) -> None:
    edit.put(body, "object", "response")
    edit.text(body, "id")
    edit.text(body, "model")
    _time(body, "created_at", edit)
    if not isinstance(body.get("status"), str):
        edit.drop(body, "status")
    # It says nothing, or it would have been taken for what went wrong.
    edit.drop(body, "error")
    for item in body["output"]:
        _custom_call(item, edit)
        parts = item.get("content")
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, dict) or "annotations" not in part:
                continue
            notes = part["annotations"]
            known = notes if isinstance(notes, list) else ()
            edit.put(part, "annotations", [one for one in known if isinstance(one, dict)])


def _candidates(body: dict[str, Any], edit: _Edit) -> None:
    for key in ("modelVersion", "responseId", "createTime"):
        if not isinstance(body.get(key), str):
            edit.drop(body, key)
    for candidate in body.get("candidates") or ():
        if type(candidate.get("index")) is not int:
            edit.drop(candidate, "index")
        if not isinstance(candidate.get("finishReason"), str | None):
            edit.put(candidate, "finishReason", str(candidate["finishReason"]))
        content = candidate.get("content")
        if isinstance(content, dict) and not isinstance(content.get("role"), str):
            edit.drop(content, "role")


def _message(message: dict[str, Any], edit: _Edit) -> None:
    edit.put(message, "role", "assistant")
    for key in _TEXTS:
        if not isinstance(message.get(key), str):
            edit.drop(message, key)
    audio = message.get("audio")
    if not isinstance(audio, Mapping) or "data" not in audio:
        edit.drop(message, "audio")
    annotations = message.get("annotations")
    if not isinstance(annotations, list):
        edit.drop(message, "annotations")
    else:
        edit.put(message, "annotations", [one for one in annotations if _is_citation(one)])
    _former_call(message, edit)
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        edit.drop(message, "tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            _call(call, call["function"], edit)


def _former_call(message: dict[str, Any], edit: _Edit) -> None:
    """Move a ``function_call`` to ``tool_calls``, which took its place; libraries pass over it."""
    call = message.get("function_call")
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return
    if not message.get("tool_calls"):
        edit.put(message, "tool_calls", [{"function": call}])
        edit.drop(message, "function_call")


def _custom_call(item: dict[str, Any], edit: _Edit) -> None:
    """Make a function call of a custom one, whose input is any text; libraries pass over it."""
    if item.get("type") != "custom_tool_call":
        return
    if isinstance(item.get("name"), str) and isinstance(item.get("call_id"), str):
        edit.put(item, "type", "function_call")
        edit.put(item, "arguments", item.pop("input", None))
        edit.text(item, "arguments")


def _call(call: dict[str, Any], function: dict[str, Any], edit: _Edit) -> None:
    edit.put(call, "type", "function")
    # pydantic-ai makes one up for an empty one.
    edit.text(call, "id")
    arguments = function.get("arguments")
    if arguments is None:
        edit.put(function, "arguments", "{}")
    elif not isinstance(arguments, str):
        edit.put(function, "arguments", json.dumps(arguments))


def _is_citation(annotation: Any) -> bool:
    if not isinstance(annotation, Mapping) or annotation.get("type") != "url_citation":
        return False
    found = annotation.get("url_citation")
    if not isinstance(found, Mapping):
        return False
    numbers = (found.get("start_index"), found.get("end_index"))
    texts = (found.get("title"), found.get("url"))
    return all(type(one) is int for one in numbers) and all(isinstance(one, str) for one in texts)


def _time(body: dict[str, Any], key: str, edit: _Edit) -> None:
    """Make the time a whole number of seconds; one that is none becomes 0."""
    value = body.get(key)
    if value is None and key in body:
        return
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 <= number <= _LATEST * 1000:
        edit.put(body, key, 0)
    elif isinstance(value, float):
        edit.put(body, key, int(value))
