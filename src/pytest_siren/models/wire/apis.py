"""The APIs whose answers are known: where the answer is, and where its usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
