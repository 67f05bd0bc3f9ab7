"""Answers of the known APIs, made what libraries expect."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.usage import RequestUsage


@dataclass(frozen=True)
class Api:
    """One kind of answer. Keys are those of its JSON."""

    path: str
    """How the path of its requests ends."""
    answer: str
    """Where the model's words and calls are: a list."""
    usage: str
    input: str
    output: str
    total: str | None
    cached: tuple[str, ...]
    """The count of input tokens that were read from a cache, below ``usage``."""
    cached_included: bool = True
    """Whether these are among the input tokens."""
    needs_content: bool = False
    """Whether an empty list is no answer."""


CHAT = Api(
    path="/chat/completions",
    answer="choices",
    usage="usage",
    input="prompt_tokens",
    output="completion_tokens",
    total="total_tokens",
    cached=("prompt_tokens_details", "cached_tokens"),
    needs_content=True,
)
RESPONSES = Api(
    path="/responses",
    answer="output",
    usage="usage",
    input="input_tokens",
    output="output_tokens",
    total="total_tokens",
    cached=("input_tokens_details", "cached_tokens"),
)
MESSAGES = Api(
    path="/messages",
    answer="content",
    usage="usage",
    input="input_tokens",
    output="output_tokens",
    total=None,
    cached=("cache_read_input_tokens",),
    cached_included=False,
)
GENERATE = Api(
    path=":generateContent",
    answer="candidates",
    usage="usageMetadata",
    input="promptTokenCount",
    output="candidatesTokenCount",
    total="totalTokenCount",
    cached=("cachedContentTokenCount",),
    needs_content=True,
)
_APIS = (CHAT, RESPONSES, MESSAGES, GENERATE)


def api_of(path: str) -> Api | None:
    """Return the API that a request to ``path`` uses; ``None`` for other requests."""
    return next((api for api in _APIS if path.endswith(api.path)), None)


def has_answer(api: Api, body: Mapping[str, Any]) -> bool:
    """Tell whether ``body`` is an answer, be it an empty one."""
    found = body.get(api.answer)
    if api is GENERATE and not found:
        # A prompt that was blocked has no candidates, and says so.
        feedback = body.get("promptFeedback")
        return isinstance(feedback, Mapping) and bool(feedback.get("blockReason"))
    if not isinstance(found, list) or (api.needs_content and not found):
        return False
    if api is CHAT:
        return isinstance(found[0], Mapping) and isinstance(found[0].get("message"), Mapping)
    return all(isinstance(part, Mapping) for part in found)


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


_MOST = 10**12
"""No request has so many tokens."""
_COUNTS = ("tokens", "TokenCount", "tokenCount")
"""How the names of counts end; what else is in usage is left as it is."""

MISSING = "is missing"
INCOMPLETE = "is incomplete"
IMPOSSIBLE = "holds counts that cannot be"
CONTRADICTORY = "contradicts itself"
ROUNDED = "holds fractions of tokens"


@dataclass
class _Findings:
    problems: dict[str, None] = field(default_factory=dict)
    """In the order in which they were found."""
    changed: bool = False


@dataclass(frozen=True)
class Repair:
    """What was wrong with the usage of an answer, and has been put right in it."""

    problem: str
    """As the end of a sentence."""
    measured: bool
    """Whether all tokens are known after all."""


def repair(api: Api, body: dict[str, Any]) -> Repair | None:
    """Make the usage in ``body`` what libraries expect; return ``None`` if it was.

    A count that is missing or impossible becomes 0, and the answer counts as not measured.
    """
    given = body.get(api.usage)
    if not isinstance(given, dict) or not given:
        _set(api, body, None)
        return Repair(MISSING, False)
    found = _Findings()
    usage = _cleaned(given, found)
    _complete(api, usage, found)
    _check_cached(api, usage, found)
    _check_sum(api, usage, found)
    unmeasured = [problem for problem in found.problems if problem != ROUNDED]
    if api.input not in usage and api.output not in usage:
        _set(api, body, None)
    elif _fill(api, usage) or found.changed or found.problems:
        _set(api, body, usage)
    if not found.problems:
        return None
    return Repair((unmeasured or [*found.problems])[0], not unmeasured)


def billed(api: Api, body: Mapping[str, Any]) -> RequestUsage | None:
    """Return the tokens of a body that is no answer; ``None`` when it does not tell of any."""
    given = body.get(api.usage)
    if not isinstance(given, dict) or not given:
        return None
    copy: dict[str, Any] = {api.usage: given}
    repaired = repair(api, copy)
    usage = copy[api.usage]
    if not isinstance(usage, dict):
        return None
    cached: Any = usage
    for key in api.cached:
        cached = cached.get(key) if isinstance(cached, Mapping) else None
    cached = cached if isinstance(cached, int) else 0
    size = usage.get(api.input) or 0
    if not api.cached_included:
        size += cached
    output = usage.get(api.output) or 0
    if api is GENERATE:
        output += usage.get("thoughtsTokenCount") or 0
    if not size + output:
        return None
    return RequestUsage(
        input_tokens=size,
        output_tokens=output,
        cache_read_tokens=cached,
        unmeasured_requests=int(repaired is not None and not repaired.measured),
    )


def _set(api: Api, body: dict[str, Any], usage: dict[str, Any] | None) -> None:
    if usage is None and api is MESSAGES:
        # Its library knows no answer without.
        usage = {api.input: 0, api.output: 0}
    body[api.usage] = usage


def _cleaned(usage: Mapping[str, Any], found: _Findings) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for key, value in usage.items():
        nested = isinstance(value, Mapping | list)
        if nested and key.endswith(_COUNTS):
            found.problems[IMPOSSIBLE] = None
            continue
        if key.endswith("_details") and not isinstance(value, Mapping | None):
            # No library can read it, and no count is known by it.
            found.changed = True
            continue
        if isinstance(value, Mapping):
            value = _cleaned(value, found)
        elif isinstance(value, list):
            value = [_cleaned(part, found) if isinstance(part, Mapping) else part for part in value]
        elif key.endswith(_COUNTS) and (type(value) is not int or not 0 <= value <= _MOST):
            found.changed = True
            value = _count(value, found)
            if value is None:
                continue
        cleaned[key] = value
    return cleaned


def _count(value: Any, found: _Findings) -> int | None:
    """Return a number of tokens; ``None`` when ``value`` is none."""
    if value is None:
        return None
    number = _number(value)
    if not 0 <= number <= _MOST:
        found.problems[IMPOSSIBLE] = None
        return None
    if number != int(number):
        found.problems[ROUNDED] = None
    return math.ceil(number)


def _number(value: Any) -> int | float:
    """Return ``value`` as a number; NaN when it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _complete(api: Api, usage: dict[str, Any], found: _Findings) -> None:
    """Work out the count that is missing, where the total tells."""
    if api.total is None:
        missing = [key for key in (api.input, api.output) if key not in usage]
    else:
        known = [key for key in (api.input, api.output) if key in usage]
        total = usage.get(api.total)
        missing = [key for key in (api.input, api.output) if key not in usage]
        others = sum(usage[key] for key in known)
        if api is GENERATE:
            # Its wire format leaves out what is 0.
            others += usage.get("thoughtsTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
            missing = [] if total == others and known else missing
        if len(missing) == 1 and total is not None and total >= others:
            found.changed = True
            usage[missing.pop()] = total - others
        elif len(missing) == 2 and total is not None:
            # At least the sum is right.
            usage[api.input] = total
            found.problems.setdefault(INCOMPLETE)
            return
    if missing:
        found.problems.setdefault(INCOMPLETE)


def _check_cached(api: Api, usage: dict[str, Any], found: _Findings) -> None:
    """Drop a count of cached tokens that is larger than that of all."""
    holder: Any = usage
    for key in api.cached[:-1]:
        holder = holder.get(key) if isinstance(holder, dict) else None
    if not api.cached_included or not isinstance(holder, dict):
        return
    if holder.get(api.cached[-1], 0) > usage.get(api.input, 0):
        # Whoever counts them apart does not say so: neither sum is certain.
        del holder[api.cached[-1]]
        found.problems[CONTRADICTORY] = None


def _check_sum(api: Api, usage: dict[str, Any], found: _Findings) -> None:
    """Find out whether tokens are missing in the counts that are charged."""
    if api.input not in usage or found.problems:
        return
    # What was asked always has some.
    if not usage[api.input] and not (api is MESSAGES and _cache_tokens(usage)):
        found.problems[IMPOSSIBLE] = None
        return
    total = usage.get(api.total) if api.total is not None else None
    if total is None:
        return
    beside = usage.get("thoughtsTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    missing = total - usage[api.input] - usage.get(api.output, 0) - beside
    if missing <= 0:
        return
    details = usage.get("completion_tokens_details")
    if isinstance(details, dict) and details.get("reasoning_tokens") == missing:
        # Some providers count them apart, though they are charged as output.
        usage[api.output] = usage.get(api.output, 0) + missing
        found.changed = True
    else:
        found.problems[CONTRADICTORY] = None


def _cache_tokens(usage: Mapping[str, Any]) -> int:
    names = ("cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(name) or 0 for name in names)


def _fill(api: Api, usage: dict[str, Any]) -> bool:
    """Give ``usage`` all that the libraries insist on; tell whether there is more in it now."""
    before = len(usage)
    usage.setdefault(api.input, 0)
    usage.setdefault(api.output, 0)
    if api in (CHAT, RESPONSES):
        usage.setdefault("total_tokens", usage[api.input] + usage[api.output])
    if api is RESPONSES:
        for key, count in (
            ("input_tokens_details", "cached_tokens"),
            ("output_tokens_details", "reasoning_tokens"),
        ):
            details = usage.get(key)
            if not isinstance(details, dict) or count not in details:
                before = -1
                usage[key] = {count: 0, **(details if isinstance(details, dict) else {})}
    return len(usage) != before
