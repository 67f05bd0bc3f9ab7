"""OpenAI's chat completions: a request read, an answer written, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias
from uuid import uuid4

from pydantic import Field
from pydantic_ai.messages import (
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ToolChoice
from pydantic_ai.usage import RequestUsage

from pytest_siren.serving.exchange import (
    Ask,
    Ending,
    RefusedError,
    Turns,
    Wire,
    allowed_tools,
    arguments_of,
    binary,
    calls_of,
    ending_of,
    event,
    file_content,
    image,
    json_parameters,
    plain_text,
    refusal_of,
    refuse_fields,
    said,
    settings_of,
    thinking_of,
    tool_definition,
)


class _Text(Wire):
    type: Literal["text"]
    text: str

    def content(self) -> UserContent:
        return self.text


class _Refusal(Wire):
    type: Literal["refusal"]
    refusal: str


class _ImageAddress(Wire):
    url: str
    detail: str | None = None


class _Image(Wire):
    type: Literal["image_url"]
    image_url: _ImageAddress

    def content(self) -> UserContent:
        return image(self.image_url.url, self.image_url.detail)


class _Sound(Wire):
    data: str
    format: str


class _Audio(Wire):
    type: Literal["input_audio"]
    input_audio: _Sound

    def content(self) -> UserContent:
        return binary(f"data:audio/{self.input_audio.format};base64,{self.input_audio.data}")


class _FileData(Wire):
    file_data: str | None = None


class _File(Wire):
    type: Literal["file"]
    file: _FileData

    def content(self) -> UserContent:
        return file_content(self.file.file_data)


_UserPart: TypeAlias = Annotated[_Text | _Image | _Audio | _File, Field(discriminator="type")]
_AssistantPart: TypeAlias = Annotated[_Text | _Refusal, Field(discriminator="type")]


class _Function(Wire):
    name: str
    arguments: str


class _Call(Wire):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _System(Wire):
    role: Literal["system", "developer"]
    content: str | list[_Text]

    def add_to(self, turns: Turns) -> None:
        texts = [self.content] if isinstance(self.content, str) else _texts(self.content)
        turns.request(*(SystemPromptPart(text) for text in texts))


class _User(Wire):
    role: Literal["user"]
    content: str | list[_UserPart]

    def add_to(self, turns: Turns) -> None:
        content = self.content
        if not isinstance(content, str):
            content = plain_text([part.content() for part in content])  # type: ignore[assignment]
        turns.request(UserPromptPart(content))  # type: ignore[arg-type]


class _Assistant(Wire):
    role: Literal["assistant"]
    content: str | list[_AssistantPart] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None

    def add_to(self, turns: Turns) -> None:
        content = self.content if self.content is not None else self.refusal
        texts = [content] if isinstance(content, str) else _texts(content or [])
        calls = (
            ToolCallPart(call.function.name, call.function.arguments, call.id)
            for call in self.tool_calls or ()
        )
        turns.response([*(TextPart(text) for text in texts), *calls])


class _Tool(Wire):
    role: Literal["tool"]
    tool_call_id: str
    content: str | list[_Text]

    def add_to(self, turns: Turns) -> None:
        content = self.content if isinstance(self.content, str) else _texts(self.content)
        turns.result(self.tool_call_id, content)


_Message: TypeAlias = Annotated[_System | _User | _Assistant | _Tool, Field(discriminator="role")]


def _texts(parts: list[_Text] | list[_AssistantPart]) -> list[str]:
    return [part.text if isinstance(part, _Text) else part.refusal for part in parts]


class _ToolFunction(Wire):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolOffer(Wire):
    type: Literal["function"]
    function: _ToolFunction


class _Named(Wire):
    name: str


class _NamedTool(Wire):
    type: Literal["function"]
    function: _Named


class _AllowedTools(Wire):
    mode: Literal["auto", "required"]
    tools: list[_NamedTool]


class _Allowed(Wire):
    type: Literal["allowed_tools"]
    allowed_tools: _AllowedTools


class _Schema(Wire):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class _Format(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _StreamOptions(Wire):
    include_usage: bool | None = None


class ChatRequest(Wire):
    """The body of a request to ``/chat/completions``."""

    model: str
    messages: list[_Message]
    tools: list[_ToolOffer] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[_NamedTool | _Allowed, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, int] | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None


_REFUSED = {
    "logprobs": "log probabilities are not recorded, so none can be returned",
    "audio": "the model answers in text only",
    "functions": "use tools instead",
    "function_call": "use tool_choice instead",
    "web_search_options": "the model has no tools but those of the request",
}


class ChatCompletion:
    """A request for a chat completion, and the answer to it."""

    def __init__(self, request: ChatRequest) -> None:
        """Raises ``RefusedError`` (400) for what cannot be obeyed."""
        if request.n not in (None, 1):
            raise RefusedError(400, f"n: there is one answer, not {request.n}", param="n")
        refuse_fields(request, _REFUSED)
        self._request = request
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())

    @cached_property
    def ask(self) -> Ask:
        """What is asked. Raises ``RefusedError`` (400)."""
        request = self._request
        turns = Turns()
        for message in request.messages:
            message.add_to(turns)
        stop = [request.stop] if isinstance(request.stop, str) else request.stop
        settings = settings_of(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_completion_tokens or request.max_tokens,
            stop_sequences=stop,
            seed=request.seed,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logit_bias=request.logit_bias,
            parallel_tool_calls=request.parallel_tool_calls,
            tool_choice=_choice(request),
            thinking=thinking_of(request.reasoning_effort),
        )
        return Ask(turns.complete(), settings, _parameters(request), bool(request.stream))

    def answer(self, response: ModelResponse, model: str) -> dict[str, Any]:
        """Return the body of the answer."""
        calls = [_call(call) for call in calls_of(response)]
        refusal = refusal_of(response)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said(response) or (None if calls or refusal else ""),
            "refusal": refusal,
        }
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _end(response)}
        return {
            **self._head("chat.completion", response, model),
            "choices": [choice],
            "usage": _usage(response.usage),
        }

    def events(self, response: ModelResponse, model: str) -> Iterator[bytes]:
        """Yield the answer in chunks, a text or a call in each."""
        options = self._request.stream_options
        with_usage = bool(options and options.include_usage)
        head = self._head("chat.completion.chunk", response, model)
        usage = {"usage": None} if with_usage else {}

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return event({**head, "choices": [choice], **usage})

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        if text := said(response):
            yield chunk({"content": text})
        if refusal := refusal_of(response):
            yield chunk({"refusal": refusal})
        for index, call in enumerate(calls_of(response)):
            whole = _call(call)
            function = {"name": call.tool_name, "arguments": ""}
            yield chunk({"tool_calls": [{**whole, "index": index, "function": function}]})
            arguments = {"arguments": whole["function"]["arguments"]}
            yield chunk({"tool_calls": [{"index": index, "function": arguments}]})
        yield chunk({}, _end(response))
        if with_usage:
            yield event({**head, "choices": [], "usage": _usage(response.usage)})
        yield b"data: [DONE]\n\n"

    def _head(self, kind: str, response: ModelResponse, model: str) -> dict[str, Any]:
        name = response.model_name or model
        return {"id": self._id, "object": kind, "created": self._created, "model": name}


def _choice(request: ChatRequest) -> ToolChoice:
    match request.tool_choice:
        case _NamedTool() as tool:
            return [tool.function.name]
        case _Allowed(allowed_tools=allowed):
            names = [tool.function.name for tool in allowed.tools]
            return allowed_tools(allowed.mode, names)
        case choice:
            return choice


def _parameters(request: ChatRequest) -> ModelRequestParameters:
    tools = [
        tool_definition(
            offer.function.name,
            offer.function.description,
            offer.function.parameters,
            offer.function.strict,
        )
        for offer in request.tools or ()
    ]
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return ModelRequestParameters(function_tools=tools)
    if wanted.type == "json_object":
        return json_parameters(tools, None)
    if wanted.json_schema is None:
        raise RefusedError(400, "response_format.json_schema is missing", param="response_format")
    schema = wanted.json_schema
    wished = OutputObjectDefinition(schema.schema_, schema.name, schema.description, schema.strict)
    return json_parameters(tools, wished)


def _call(call: ToolCallPart) -> dict[str, Any]:
    function = {"name": call.tool_name, "arguments": arguments_of(call)}
    return {"id": call.tool_call_id, "type": "function", "function": function}


def _end(response: ModelResponse) -> str:
    match ending_of(response):
        case Ending.CALLS:
            return "tool_calls"
        case Ending.LENGTH:
            return "length"
        case Ending.FILTERED:
            return "content_filter"
        case Ending.SAID:
            return "stop"


def _usage(usage: RequestUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.output_reasoning_tokens},
    }
