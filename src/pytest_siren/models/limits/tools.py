"""Spares what is worked out anew for each request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import signature
from typing import Any

from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

_MOST = 64

Customize = Callable[[ModelRequestParameters], ModelRequestParameters]


def remember_tools(model: Model) -> None:
    """Let ``model`` adapt the schemas of the same tools once, not for each request.

    Only where it does so in pydantic-ai's common way, which looks at nothing but each tool.
    """
    if type(model).customize_request_parameters is Model.customize_request_parameters:
        remembered = RememberedTools(model.customize_request_parameters)
        model.customize_request_parameters = remembered  # type: ignore[method-assign, assignment]


def send_as_given(model: Model) -> None:
    """Let the client of an OpenAI ``model`` send functions and messages as they are.

    The library looks at every part of them, once for each type that the part might have, for names
    that are spelled otherwise on the wire; in functions and in messages of chats there are none.
    It takes a quarter of the time of a request with 24 tools, a tenth for every two messages, and
    another tenth for the name of the model. What is given as ``extra_body`` is sent as it is. Does
    nothing to clients of other libraries.
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    client: Any = getattr(model, "client", None)
    names = ["tools"]
    if type(client).__name__ == "AsyncOpenAI":
        # Azure's makes the address of it.
        names += ["model", "stream"]
    # Only of what the model uses: each resource is imported when it is first looked at.
    if "OpenAIChatModel" in kinds:
        completions = client.chat.completions
        completions.create = _with_parts_aside(completions.create, [*names, "messages"])
    elif "OpenAIResponsesModel" in kinds:
        client.responses.create = _with_parts_aside(client.responses.create, names)


def _with_parts_aside(create: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    # What the library takes for a parameter that is not given; some parameters must be, though.
    omit = signature(create).parameters["tools"].default

    @wraps(create)
    def create_with_parts_aside(*args: Any, **given: Any) -> Any:
        aside = {name: given[name] for name in names if _can_stand_aside(name, given.get(name))}
        if aside:
            given |= dict.fromkeys(aside, omit)
            given["extra_body"] = {**aside, **(given.get("extra_body") or {})}
        return create(*args, **given)

    return create_with_parts_aside


def _can_stand_aside(name: str, part: Any) -> bool:
    if name == "model":
        return isinstance(part, str)
    if name == "stream":
        # What streams is read in another way.
        return part is False
    if not isinstance(part, list):
        return False
    if name == "tools":
        return all(type(tool) is dict and tool.get("type") == "function" for tool in part)
    return all(type(message) is dict for message in part)


class RememberedTools:
    """``customize`` with a memory for tools that come again: the same objects in the same order."""

    def __init__(self, customize: Customize) -> None:
        self._customize = customize
        # With the objects themselves, so that nothing else gets their ids.
        self._known: dict[
            tuple[int, ...], tuple[Sequence[ToolDefinition], Sequence[ToolDefinition]]
        ] = {}

    def __call__(self, parameters: ModelRequestParameters) -> ModelRequestParameters:
        tools = parameters.function_tools
        if not tools or parameters.output_tools or parameters.output_object is not None:
            return self._customize(parameters)
        key = tuple(map(id, tools))
        known = self._known.get(key)
        if known is not None:
            return replace(parameters, function_tools=list(known[1]))
        customized = self._customize(parameters)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (tuple(tools), tuple(customized.function_tools))
        return customized
