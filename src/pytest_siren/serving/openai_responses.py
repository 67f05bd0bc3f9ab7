"""OpenAI's responses: a request read, an answer written, whole or as a stream of events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias
from uuid import uuid4

from pydantic import Discriminator, Field, Tag
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ToolChoice

from pytest_siren.serving.exchange import (
    Ask,
    Ending,
    RefusedError,
    Turns,
    Wire,
    allowed_tools,
    arguments_of,
    calls_of,
    ending_of,
    event,
    file_content,
    image,
    json_parameters,
    plain_text,
    refusal_of,
    refuse_fields,
    settings_of,
    texts_of,
    thinking_of,
    tool_definition,
)


class _Text(Wire):
    type: Literal["input_text", "output_text", "text"]
    text: str

    def content(self) -> UserContent:
        return self.text


class _Refusal(Wire):
    type: Literal["refusal"]
    refusal: str

    def content(self) -> UserContent:
        return self.refusal


class _Image(Wire):
    type: Literal["input_image"]
    image_url: str | None = None
    detail: str | None = None

    def content(self) -> UserContent:
        if self.image_url is None:
            raise RefusedError(400, "an image needs image_url: no files are stored here")
        return image(self.image_url, self.detail)


class _File(Wire):
    type: Literal["input_file"]
    file_data: str | None = None

    def content(self) -> UserContent:
        return file_content(self.file_data)


_Part: TypeAlias = Annotated[_Text | _Refusal | _Image | _File, Field(discriminator="type")]


def _content(content: str | list[_Part]) -> str | list[UserContent]:
    return content if isinstance(content, str) else plain_text([part.content() for part in content])


class _Message(Wire):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]


class _Call(Wire):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class _Result(Wire):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[_Part]


class _Summary(Wire):
    text: str


class _Reasoning(Wire):
    type: Literal["reasoning"]
    summary: list[_Summary] = Field(default_factory=list)


def _item_type(item: Any) -> str | None:
    if isinstance(item, Mapping):
        return item.get("type") or ("message" if "role" in item else "item_reference")
    return getattr(item, "type", None)


_Item: TypeAlias = Annotated[
    Annotated[_Message, Tag("message")]
    | Annotated[_Call, Tag("function_call")]
    | Annotated[_Result, Tag("function_call_output")]
    | Annotated[_Reasoning, Tag("reasoning")],
    Discriminator(_item_type),
]


class _ToolOffer(Wire):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _NamedTool(Wire):
    type: Literal["function"]
    name: str


class _Allowed(Wire):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[_NamedTool]


class _Format(Wire):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class _TextConfig(Wire):
    format: _Format | None = None


class _ReasoningConfig(Wire):
    effort: str | None = None


class ResponsesRequest(Wire):
    """The body of a request to ``/responses``."""

    model: str | None = None
    input: str | list[_Item] = ""
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[_ToolOffer] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[_NamedTool | _Allowed, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    text: _TextConfig | None = None
    reasoning: _ReasoningConfig | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    top_logprobs: int | None = None


_REFUSED = {
    "background": "an answer is given on the request that asks for it",
    "conversation": "no conversations are stored here; use previous_response_id",
    "prompt": "no prompts are stored here",
    "top_logprobs": "log probabilities are not recorded, so none can be returned",
}


class OpenAIResponse:
    """A request for a response, and the answer to it."""

    def __init__(
        self, request: ResponsesRequest, stored: dict[str, tuple[ModelMessage, ...]]
    ) -> None:
        """``stored`` holds the conversations of the run by the ids of their last responses.

        Raises ``RefusedError`` (400) for what cannot be obeyed.
        """
        refuse_fields(request, _REFUSED)
        self._request, self._stored = request, stored
        self._id = f"resp_{uuid4().hex}"
        self._created = time.time()

    @cached_property
    def ask(self) -> Ask:
        """What is asked. Raises ``RefusedError`` (400)."""
        request = self._request
        settings = settings_of(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_output_tokens,
            parallel_tool_calls=request.parallel_tool_calls,
            tool_choice=_choice(request),
            thinking=thinking_of(request.reasoning.effort if request.reasoning else None),
        )
        messages = self._conversation
        if request.instructions:
            # They are of this request only, and are not stored with its conversation.
            instructed = Turns()
            instructed.request(SystemPromptPart(request.instructions))
            messages = _joined(instructed.complete(), messages)
        return Ask(messages, settings, _parameters(request), bool(request.stream))

    def answer(self, response: ModelResponse, model: str) -> dict[str, Any]:
        """Return the body of the answer, and store the conversation it belongs to."""
        if self._request.store is not False:
            self._stored[self._id] = (*self._conversation, response)
        incomplete = _incomplete(response)
        return {
            **self._head(response.model_name or model),
            "status": "incomplete" if incomplete else "completed",
            "incomplete_details": {"reason": incomplete} if incomplete else None,
            "output": _items(response, self._id),
            "usage": _usage(response),
        }

    def events(self, response: ModelResponse, model: str) -> Iterator[bytes]:
        """Yield the answer in events, a text or a call in each delta."""
        number = 0

        def one(kind: str, **fields: Any) -> bytes:
            nonlocal number
            written = event({"type": kind, "sequence_number": number, **fields}, kind)
            number += 1
            return written

        whole = self.answer(response, model)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        begun["incomplete_details"] = None
        yield one("response.created", response=begun)
        yield one("response.in_progress", response=begun)
        for index, item in enumerate(whole["output"]):
            place = {"output_index": index}
            yield one("response.output_item.added", item=_opened(item), **place)
            match item["type"]:
                case "message":
                    for kind, fields in _message_events(item):
                        yield one(kind, **fields, **place)
                case "function_call":
                    for kind, fields in _call_events(item):
                        yield one(kind, **fields, **place)
            yield one("response.output_item.done", item=item, **place)
        yield one(f"response.{whole['status']}", response=whole)

    @property
    def _previous(self) -> tuple[ModelMessage, ...]:
        name = self._request.previous_response_id
        if name is None:
            return ()
        if name not in self._stored:
            raise RefusedError(
                400,
                f"this run has no response {name!r}",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return self._stored[name]

    @cached_property
    def _conversation(self) -> tuple[ModelMessage, ...]:
        """All turns, without the instructions."""
        turns = Turns(list(self._previous))
        if isinstance(self._request.input, str):
            turns.request(UserPromptPart(self._request.input))
            return turns.complete()
        said: list[ModelResponsePart] = []
        for item in self._request.input:
            if (parts := _answered(item)) is not None:
                said += parts
                continue
            if said:
                turns.response(said)
                said = []
            _add(item, turns)
        if said:
            turns.response(said)
        return turns.complete()

    def _head(self, model: str) -> dict[str, Any]:
        request = self._request
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "model": model,
            "error": None,
            "instructions": request.instructions,
            "previous_response_id": request.previous_response_id,
            "metadata": {},
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "tool_choice": _shown(request.tool_choice) or "auto",
            "tools": [_shown(tool) for tool in request.tools or ()],
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_output_tokens": request.max_output_tokens,
            "store": request.store is not False,
        }


def _shown(choice: Any) -> Any:
    return choice.model_dump() if isinstance(choice, Wire) else choice


def _joined(
    first: tuple[ModelMessage, ...], rest: tuple[ModelMessage, ...]
) -> tuple[ModelMessage, ...]:
    """Return both; requests that meet become one, as the agent ``plain`` writes them."""
    if not isinstance(rest[0], ModelResponse) and not isinstance(first[-1], ModelResponse):
        met = replace(rest[0], parts=[*first[-1].parts, *rest[0].parts])
        return (*first[:-1], met, *rest[1:])
    return (*first, *rest)


def _answered(
    item: _Message | _Call | _Result | _Reasoning,
) -> list[ModelResponsePart] | None:
    """Return what of an answer ``item`` is; ``None`` for what is not the model's."""
    match item:
        case _Message(role="assistant", content=str() as text):
            return [TextPart(text)]
        case _Message(role="assistant", content=parts):
            return [TextPart(str(part.content())) for part in parts]  # type: ignore[union-attr]
        case _Call():
            return [ToolCallPart(item.name, item.arguments, item.call_id)]
        case _Reasoning():
            # It is known by what follows it; see ``Memory``.
            return []
    return None


def _add(item: _Message | _Call | _Result | _Reasoning, turns: Turns) -> None:
    match item:
        case _Message(role="user"):
            turns.request(UserPromptPart(_content(item.content)))
        case _Message():
            content = _content(item.content)
            texts = [content] if isinstance(content, str) else content
            turns.request(*(SystemPromptPart(str(text)) for text in texts))
        case _Result():
            turns.result(item.call_id, _content(item.output))


def _choice(request: ResponsesRequest) -> ToolChoice:
    match request.tool_choice:
        case _NamedTool(name=name):
            return [name]
        case _Allowed(mode=mode, tools=tools):
            return allowed_tools(mode, [tool.name for tool in tools])
        case choice:
            return choice


def _parameters(request: ResponsesRequest) -> ModelRequestParameters:
    tools = [
        tool_definition(offer.name, offer.description, offer.parameters, offer.strict)
        for offer in request.tools or ()
    ]
    wanted = request.text.format if request.text else None
    if wanted is None or wanted.type == "text":
        return ModelRequestParameters(function_tools=tools)
    if wanted.type == "json_object":
        return json_parameters(tools, None)
    if wanted.schema_ is None:
        raise RefusedError(400, "text.format.schema is missing", param="text.format.schema")
    wished = OutputObjectDefinition(wanted.schema_, wanted.name, wanted.description, wanted.strict)
    return json_parameters(tools, wished)


def _incomplete(response: ModelResponse) -> str | None:
    match ending_of(response):
        case Ending.LENGTH:
            return "max_output_tokens"
        case Ending.FILTERED:
            return "content_filter"
    return None


def _items(response: ModelResponse, response_id: str) -> list[dict[str, Any]]:
    """Return the output: thinking, the message, and the calls."""
    suffix = response_id.removeprefix("resp_")
    items: list[dict[str, Any]] = [
        {
            "type": "reasoning",
            "id": f"rs_{suffix}_{index}",
            "summary": [{"type": "summary_text", "text": part.content}] if part.content else [],
        }
        for index, part in enumerate(response.parts)
        if isinstance(part, ThinkingPart)
    ]
    content: list[dict[str, Any]] = [
        {"type": "output_text", "text": text, "annotations": []} for text in texts_of(response)
    ]
    if refusal := refusal_of(response):
        content.append({"type": "refusal", "refusal": refusal})
    calls = calls_of(response)
    if content or not calls:
        message = {"type": "message", "id": f"msg_{suffix}", "role": "assistant"}
        items.append({**message, "status": "completed", "content": content})
    items += [
        {
            "type": "function_call",
            "id": f"fc_{suffix}_{index}",
            "call_id": call.tool_call_id,
            "name": call.tool_name,
            "arguments": arguments_of(call),
            "status": "completed",
        }
        for index, call in enumerate(calls)
    ]
    return items


def _opened(item: dict[str, Any]) -> dict[str, Any]:
    """Return ``item`` as it is before its first delta."""
    match item["type"]:
        case "message":
            return {**item, "status": "in_progress", "content": []}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
    return item


def _message_events(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, part in enumerate(item["content"]):
        place = {"item_id": item["id"], "content_index": index}
        field = "text" if part["type"] == "output_text" else "refusal"
        kind, words = f"response.{part['type']}", part[field]
        logprobs: dict[str, Any] = {"logprobs": []} if field == "text" else {}
        yield "response.content_part.added", {"part": {**part, field: ""}, **place}
        yield f"{kind}.delta", {"delta": words, **logprobs, **place}
        yield f"{kind}.done", {field: words, **logprobs, **place}
        yield "response.content_part.done", {"part": part, **place}


def _call_events(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind, arguments = "response.function_call_arguments", item["arguments"]
    yield f"{kind}.delta", {"item_id": item["id"], "delta": arguments}
    done = {"item_id": item["id"], "name": item["name"], "arguments": arguments}
    yield f"{kind}.done", done


def _usage(response: ModelResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.output_reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
