"""A request that goes nowhere, so that what answers are read with is there when the first comes."""

from __future__ import annotations

from contextlib import suppress

import httpx2
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import ModelRequestParameters

from pytest_siren.models.limits.clients import opened

_CHAT = {
    "id": "rehearsal",
    "object": "chat.completion",
    "created": 1,
    "model": "rehearsal",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Yes."},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_RESPONSE = {
    "id": "rehearsal",
    "object": "response",
    "created_at": 1,
    "model": "rehearsal",
    "status": "completed",
    "output": [
        {
            "id": "rehearsal",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Yes.", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    },
}


async def rehearse(name: str) -> bool:
    """Let pydantic-ai's model ``name`` read an answer that no server has given; tell if it has.

    pydantic builds its validators when they are first used. With OpenAI's that takes 0.1 s, and
    where all runs in flight wait for their first answer, all of them would wait that much longer.
    Does nothing for models of other libraries.
    """
    async with opened(name, httpx2.MockTransport(_answer)) as (model, ours):
        kinds = {kind.__name__ for kind in type(model).__mro__}
        if not ours or not kinds & {"OpenAIChatModel", "OpenAIResponsesModel"}:
            return False
        # Whatever is wrong shows, and is told, when it is in earnest.
        with suppress(Exception):
            question = ModelRequest(parts=[UserPromptPart("Are you there?")])
            await model.request([question], None, ModelRequestParameters())
            return True
    return False


def _answer(request: httpx2.Request) -> httpx2.Response:
    chat = request.url.path.endswith("/chat/completions")
    return httpx2.Response(200, json=_CHAT if chat else _RESPONSE)
