"""Anthropic's messages: a request read, an answer written, whole or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias
from uuid import uuid4

from pydantic import Discriminator, Field, Tag
from pydantic_ai.messages import (
    DocumentUrl,
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
from pydantic_ai.settings import ModelSettings, ToolChoice
from pydantic_ai.usage import RequestUsage

from pytest_siren.serving.exchange import (
    Ask,
    Ending,
    Turns,
    Wire,
    binary,
    calls_of,
    ending_of,
    event,
    image,
    json_parameters,
    plain_text,
    refusal_of,
    refuse_fields,
    settings_of,
    tool_definition,
)


class _Text(Wire):
    type: Literal["text"]
    text: str

    def content(self) -> UserContent:
        return self.text


class _Data(Wire):
    type: Literal["base64"]
    media_type: str
    data: str

    @property
    def uri(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


class _Address(Wire):
    type: Literal["url"]
    url: str


class _TextSource(Wire):
    type: Literal["text"]
    data: str


class _Image(Wire):
    type: Literal["image"]
    source: Annotated[_Data | _Address, Field(discriminator="type")]

    def content(self) -> UserContent:
        source = self.source
        return image(source.uri if isinstance(source, _Data) else source.url)


class _Document(Wire):
    type: Literal["document"]
    source: Annotated[_Data | _Address | _TextSource, Field(discriminator="type")]

    def content(self) -> UserContent:
        match self.source:
            case _Data() as data:
                return binary(data.uri)
            case _Address(url=url):
                return DocumentUrl(url)
            case _TextSource(data=text):
                return text


_Shown: TypeAlias = Annotated[_Text | _Image | _Document, Field(discriminator="type")]


class _Result(Wire):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[_Shown] = ""
    is_error: bool | None = None


class _Use(Wire):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class _Thinking(Wire):
    type: Literal["thinking", "redacted_thinking"]


class _User(Wire):
    role: Literal["user"]
    content: str | list[Annotated[_Shown | _Result, Field(discriminator="type")]]

    def add_to(self, turns: Turns) -> None:
        if isinstance(self.content, str):
            turns.request(UserPromptPart(self.content))
            return
        shown: list[UserContent] = []
        for block in self.content:
            if isinstance(block, _Result):
                turns.result(block.tool_use_id, _content(block), failed=bool(block.is_error))
            else:
                shown.append(block.content())
        if shown:
            turns.request(UserPromptPart(plain_text(shown)))


class _Assistant(Wire):
    role: Literal["assistant"]
    content: str | list[Annotated[_Text | _Use | _Thinking, Field(discriminator="type")]]

    def add_to(self, turns: Turns) -> None:
        if isinstance(self.content, str):
            turns.response([TextPart(self.content)])
            return
        parts: list[ModelResponsePart] = []
        for block in self.content:
            match block:
                case _Text(text=text):
                    parts.append(TextPart(text))
                case _Use():
                    parts.append(ToolCallPart(block.name, block.input, block.id))
        turns.response(parts)


class _System(Wire):
    role: Literal["system"]
    content: str | list[_Text]

    def add_to(self, turns: Turns) -> None:
        turns.request(*_system(self.content))


def _content(result: _Result) -> str | list[UserContent]:
    if isinstance(result.content, str):
        return result.content
    return [block.content() for block in result.content]


def _system(system: str | list[_Text]) -> list[SystemPromptPart]:
    texts = [system] if isinstance(system, str) else [block.text for block in system]
    return [SystemPromptPart(text) for text in texts]


class _ToolOffer(Wire):
    type: Literal["custom"] | None = None
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class _AnyTool(Wire):
    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class _NamedTool(Wire):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


class _ThinkingConfig(Wire):
    type: Literal["enabled", "disabled", "adaptive"]


class _Format(Wire):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class _OutputConfig(Wire):
    format: _Format | None = None
    effort: str | None = None


class MessagesRequest(Wire):
    """The body of a request to ``/v1/messages``."""

    model: str
    max_tokens: int
    messages: list[Annotated[_User | _Assistant | _System, Field(discriminator="role")]]
    system: str | list[_Text] | None = None
    tools: list[_ToolOffer] | None = None
    tool_choice: (
        Annotated[
            Annotated[_AnyTool, Tag("any")] | Annotated[_NamedTool, Tag("tool")],
            Discriminator(lambda one: "tool" if _kind(one) == "tool" else "any"),
        ]
        | None
    ) = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    thinking: _ThinkingConfig | None = None
    output_config: _OutputConfig | None = None
    container: Any = None
    mcp_servers: Any = None


def _kind(one: Any) -> Any:
    return one.get("type") if isinstance(one, dict) else getattr(one, "type", None)


_REFUSED = {
    "container": "there are no containers here",
    "mcp_servers": "the agent calls MCP servers itself",
}


class AnthropicMessage:
    """A request for a message, and the answer to it."""

    def __init__(self, request: MessagesRequest) -> None:
        """Raises ``RefusedError`` (400) for what cannot be obeyed."""
        refuse_fields(request, _REFUSED)
        self._request = request
        self._id = f"msg_{uuid4().hex}"

    @cached_property
    def ask(self) -> Ask:
        """What is asked. Raises ``RefusedError`` (400)."""
        turns = Turns()
        if self._request.system:
            turns.request(*_system(self._request.system))
        for message in self._request.messages:
            message.add_to(turns)
        stream = bool(self._request.stream)
        return Ask(turns.complete(), _settings(self._request), _parameters(self._request), stream)

    def answer(self, response: ModelResponse, model: str) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": response.model_name or model,
            "content": _blocks(response),
            "stop_reason": _end(response),
            "stop_sequence": None,
            "usage": _usage(response.usage),
        }

    def events(self, response: ModelResponse, model: str) -> Iterator[bytes]:
        """Yield the answer in events, a text or a call in each delta."""

        def one(kind: str, **fields: Any) -> bytes:
            return event({"type": kind, **fields}, kind)

        whole = self.answer(response, model)
        usage = whole["usage"]
        begun = {
            **whole,
            "content": [],
            "stop_reason": None,
            "usage": {**usage, "output_tokens": 0},
        }
        yield one("message_start", message=begun)
        for index, block in enumerate(whole["content"]):
            opened, deltas = _pieces(block)
            yield one("content_block_start", index=index, content_block=opened)
            for delta in deltas:
                yield one("content_block_delta", index=index, delta=delta)
            yield one("content_block_stop", index=index)
        end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield one("message_delta", delta=end, usage=usage)
        yield one("message_stop")


def _settings(request: MessagesRequest) -> ModelSettings | None:
    choice = request.tool_choice
    alone = choice is not None and choice.disable_parallel_tool_use
    return settings_of(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop_sequences=request.stop_sequences,
        tool_choice=_choice(choice),
        parallel_tool_calls=False if alone else None,
        thinking=_thinking(request),
    )


def _thinking(request: MessagesRequest) -> bool | str | None:
    if request.output_config and request.output_config.effort:
        return request.output_config.effort
    return None if request.thinking is None else request.thinking.type != "disabled"


def _choice(choice: _AnyTool | _NamedTool | None) -> ToolChoice:
    match choice:
        case _NamedTool(name=name):
            return [name]
        case _AnyTool(type="any"):
            return "required"
        case _AnyTool(type="none"):
            return "none"
        case _AnyTool():
            return "auto"
    return None


def _parameters(request: MessagesRequest) -> ModelRequestParameters:
    tools = [
        tool_definition(offer.name, offer.description, offer.input_schema, offer.strict)
        for offer in request.tools or ()
    ]
    if request.output_config is None or request.output_config.format is None:
        return ModelRequestParameters(function_tools=tools)
    return json_parameters(tools, OutputObjectDefinition(request.output_config.format.schema_))


def _blocks(response: ModelResponse) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    calls = calls_of(response)
    for part in response.parts:
        match part:
            case ThinkingPart(content=words, signature=signature):
                blocks.append({"type": "thinking", "thinking": words, "signature": signature or ""})
            case TextPart(content=text) if text:
                blocks.append({"type": "text", "text": text, "citations": None})
            case ToolCallPart() if part in calls:
                call = {"type": "tool_use", "id": part.tool_call_id, "name": part.tool_name}
                blocks.append({**call, "input": part.args_as_dict()})
    if not (response.text or calls) and (refusal := refusal_of(response)):
        blocks.append({"type": "text", "text": refusal, "citations": None})
    return blocks


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ``block`` as it is before its first delta, and its deltas."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
            return {**block, "thinking": "", "signature": ""}, deltas
    written = json.dumps(block["input"], ensure_ascii=False)
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": written}]


def _end(response: ModelResponse) -> str:
    match ending_of(response):
        case Ending.CALLS:
            return "tool_use"
        case Ending.LENGTH:
            return "max_tokens"
        case Ending.FILTERED:
            return "refusal"
    return "refusal" if refusal_of(response) else "end_turn"


def _usage(usage: RequestUsage) -> dict[str, Any]:
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return {
        # Anthropic counts what its cache holds beside these, pydantic-ai among them.
        "input_tokens": max(0, usage.input_tokens - cached),
        "output_tokens": usage.output_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
    }
