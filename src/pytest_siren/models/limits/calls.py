"""Tool calls that an answer holds where pydantic-ai does not look for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from pydantic_ai.models import Model

Create = Callable[..., Awaitable[Any]]


def find_calls(model: Model) -> None:
    """Let an OpenAI ``model`` see calls in the places of former and rarer protocols.

    Those are a chat message's ``function_call``, which ``tool_calls`` took the place of, and custom
    calls of Responses, whose input is any text. pydantic-ai passes over both, so that an agent that
    asked for a tool would seem to have asked for nothing. Does nothing to models of other kinds.
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    client: Any = getattr(model, "client", None)
    # Only of what the model uses: each resource is imported when it is first looked at.
    if "OpenAIChatModel" in kinds:
        completions = client.chat.completions
        completions.create = _changing(completions.create, _function_call)
    elif "OpenAIResponsesModel" in kinds:
        client.responses.create = _changing(client.responses.create, _custom_calls)


def _changing(create: Create, change: Callable[[Any], None]) -> Create:
    @wraps(create)
    async def create_and_change(*args: Any, **given: Any) -> Any:
        answer = await create(*args, **given)
        change(answer)
        return answer

    return create_and_change


def _function_call(answer: Any) -> None:
    """Move the former ``function_call`` of the first choice to its ``tool_calls``."""
    from openai.types.chat import ChatCompletionMessageFunctionToolCall

    # Nothing of the answer has been validated yet.
    choices = getattr(answer, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(first, "message", None)
    call = getattr(message, "function_call", None)
    name, arguments = getattr(call, "name", None), getattr(call, "arguments", None)
    if message is None or getattr(message, "tool_calls", None) or not isinstance(name, str):
        return
    function = {"name": name, "arguments": arguments if isinstance(arguments, str) else ""}
    # It had no id; pydantic-ai makes one up for an empty one.
    made = {"id": "", "type": "function", "function": function}
    message.tool_calls = [ChatCompletionMessageFunctionToolCall.model_validate(made)]
    message.function_call = None


def _custom_calls(answer: Any) -> None:
    """Make function calls of custom ones; their input is read as arguments, or found unreadable."""
    from openai.types.responses import ResponseFunctionToolCall

    output = getattr(answer, "output", None)
    if not isinstance(output, list):
        return
    for place, item in enumerate(output):
        if getattr(item, "type", None) != "custom_tool_call":
            continue
        name, call_id = getattr(item, "name", None), getattr(item, "call_id", None)
        if isinstance(name, str) and isinstance(call_id, str):
            text = getattr(item, "input", None)
            output[place] = ResponseFunctionToolCall(
                type="function_call",
                name=name,
                call_id=call_id,
                arguments=text if isinstance(text, str) else "",
            )
