"""What the served protocols have in common: requests read, answers put into words, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings, ToolChoice, ToolOrOutput
from pydantic_ai.tools import ToolDefinition

from pytest_siren.evaluation.models import STOP_AFTER
from pytest_siren.evaluation.scores import Finish
from pytest_siren.evaluation.scoring import finish_of


class RefusedError(Exception):
    """A request that is not answered, as its client is to read it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        again: bool = False,
    ) -> None:
        """``status`` is of HTTP; ``param`` the field at fault; ``code`` a word for programs.

        Clients are asked to send the request ``again``, or not to.
        """
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.again = again


@dataclass(frozen=True)
class Ask:
    """What an agent asks the model of its run."""

    messages: tuple[ModelMessage, ...]
    settings: ModelSettings | None
    parameters: ModelRequestParameters
    stream: bool
    """Whether the answer is sent as server-sent events."""


class ModelProtocol(Protocol):
    """One request of an agent, in the protocol of a model provider."""

    @property
    def ask(self) -> Ask:
        """What is asked."""
        ...

    def answer(self, response: ModelResponse, model: str) -> dict[str, Any]:
        """Return the body of the answer; ``model`` is its model's name where it has none."""
        ...

    def events(self, response: ModelResponse, model: str) -> Iterator[bytes]:
        """Yield the answer as server-sent events."""
        ...


class Wire(BaseModel):
    """A part of a request. Fields that are not read are ignored, as providers add new ones."""

    model_config = ConfigDict(extra="ignore")


W = TypeVar("W", bound=Wire)


def parsed(kind: type[W], body: bytes) -> W:
    """Return ``body`` as ``kind``. Raises ``RefusedError`` (400) that names the field at fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        # Of what may be a text or a list, it is the deepest that tells what is wrong with the list.
        worst = max(errors, key=lambda one: len(one["loc"]))
        # Pydantic names the types of a union among the fields.
        where = ".".join(str(one) for one in worst["loc"] if "[" not in str(one))
        if worst["type"] == "json_invalid":
            raise RefusedError(400, f"the body is not JSON: {worst['msg']}") from error
        raise RefusedError(400, f"{where}: {worst['msg']}", param=where or None) from error


def refuse_fields(request: Wire, reasons: Mapping[str, str]) -> None:
    """Raise ``RefusedError`` (400) if ``request`` sets a field of ``reasons``: nothing obeys it."""
    for name, reason in reasons.items():
        if getattr(request, name):
            raise RefusedError(400, f"{name}: {reason}", param=name, code="unsupported_value")


def settings_of(**settings: Any) -> ModelSettings | None:
    """Return those of ``settings`` that are given; ``None`` if none is."""
    given = {name: value for name, value in settings.items() if value is not None}
    return ModelSettings(**given) if given else None  # type: ignore[typeddict-item]


def thinking_of(effort: str | None) -> bool | str | None:
    """Return OpenAI's ``reasoning.effort`` as pydantic-ai's ``thinking``."""
    return False if effort == "none" else effort


def allowed_tools(mode: str, names: list[str]) -> ToolChoice:
    """Return OpenAI's choice of the type ``allowed_tools`` as pydantic-ai's."""
    return names if mode == "required" else ToolOrOutput(names)


def image(url: str, detail: str | None = None) -> UserContent:
    """Return the image at ``url``, which may be a data URI. Raises ``RefusedError`` (400).

    ``detail`` is OpenAI's, how closely the model looks; ``auto`` is what it does by itself.
    """
    if detail == "auto":
        detail = None
    if not url.startswith("data:"):
        return ImageUrl(url, vendor_metadata={"detail": detail} if detail else None)
    content = binary(url)
    if detail:
        content.vendor_metadata = {"detail": detail}
    return content


def binary(data_uri: str) -> BinaryContent:
    """Return what ``data_uri`` holds. Raises ``RefusedError`` (400)."""
    try:
        return BinaryContent.from_data_uri(data_uri)
    except ValueError as error:
        raise RefusedError(400, f"a data URI cannot be read: {error}") from error


def file_content(data_uri: str | None) -> BinaryContent:
    """Return a file that was sent along. Raises ``RefusedError`` (400) for one that was not."""
    if data_uri is None:
        raise RefusedError(400, "a file needs file_data: no files are stored here")
    return binary(data_uri)


def data_uri(content: BinaryContent) -> str:
    """Return ``content`` as a data URI."""
    return f"data:{content.media_type};base64,{content.base64}"


def plain_text(content: Sequence[UserContent]) -> str | list[UserContent]:
    """Return ``content`` as a text if it is one, and as a list else."""
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return list(content)


def tool_definition(
    name: str, description: str | None, schema: dict[str, Any] | None, strict: bool | None = None
) -> ToolDefinition:
    """Return a tool that the agent offers; one without a schema takes no arguments."""
    parameters = schema or {"type": "object", "properties": {}}
    return ToolDefinition(
        name=name, parameters_json_schema=parameters, description=description, strict=strict
    )


def json_parameters(
    tools: list[ToolDefinition], wished: OutputObjectDefinition | None
) -> ModelRequestParameters:
    """Return parameters that ask for JSON as ``wished``; for any where that is ``None``."""
    if wished is None:
        return ModelRequestParameters(
            function_tools=tools, output_mode="prompted", prompted_output_template=False
        )
    return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=wished)


@dataclass
class Turns:
    """Makes pydantic-ai's messages of a conversation, turn by turn.

    Turns that follow one another and are not the model's are one request, as ``plain`` writes it.
    """

    messages: list[ModelMessage] = field(default_factory=list)
    _tools: dict[str, str] = field(default_factory=dict)
    """By the id of a call, the name of its tool."""

    def __post_init__(self) -> None:
        for message in self.messages:
            self._note(message)

    def request(self, *parts: ModelRequestPart) -> None:
        """Add ``parts`` of a request."""
        last = self.messages[-1] if self.messages else None
        if isinstance(last, ModelRequest) and last.timestamp is None:
            last.parts = [*last.parts, *parts]
        else:
            # Without a time until it is complete: those of earlier conversations are.
            self.messages.append(ModelRequest(parts=list(parts)))

    def response(self, parts: Sequence[ModelResponsePart]) -> None:
        """Add an answer of the model."""
        response = ModelResponse(parts=list(parts))
        self._note(response)
        self.messages.append(response)

    def result(
        self, call_id: str, content: str | Sequence[UserContent], *, failed: bool = False
    ) -> None:
        """Add the result of a call. Raises ``RefusedError`` (400) if nobody asked for the call."""
        name = self._tools.get(call_id)
        if name is None:
            raise RefusedError(
                400,
                f"a result answers the call {call_id!r}, for which no answer before it asks",
            )
        text: Any = content
        if not isinstance(content, str):
            texts = [one for one in content if isinstance(one, str)]
            text = "\n".join(texts) if len(texts) == len(content) else list(content)
        outcome = "failed" if failed else "success"
        self.request(ToolReturnPart(name, text, call_id, outcome=outcome))  # type: ignore[arg-type]

    def complete(self) -> tuple[ModelMessage, ...]:
        """Return the messages. Raises ``RefusedError`` (400) if there is none."""
        if not self.messages:
            raise RefusedError(400, "the conversation is empty")
        for message in self.messages:
            if message.timestamp is None:
                message.timestamp = datetime.now(UTC)
        return tuple(self.messages)

    def _note(self, message: ModelMessage) -> None:
        if isinstance(message, ModelResponse):
            calls = (part for part in message.parts if isinstance(part, ToolCallPart))
            self._tools.update((call.tool_call_id, call.tool_name) for call in calls)


@dataclass
class Memory:
    """Recognizes the messages of one run when its agent sends them again.

    What the model answered comes back as it was, with all that the protocol has no words for:
    signatures of its thinking, usage, the provider's own details. A request keeps its time, and
    whatever has been noted on it.
    """

    _tools: dict[str, ToolDefinition] = field(default_factory=dict)
    """By name; those of the run, and what its agent offered last."""
    _answers: dict[tuple[Any, ...], ModelResponse] = field(default_factory=dict)
    _last: tuple[ModelMessage, ...] = ()

    @classmethod
    def of_tools(cls, tools: Iterable[ToolDefinition]) -> Memory:
        """Return the memory of a run whose own tools are ``tools``."""
        return cls({tool.name: tool for tool in tools})

    def same_tools(self, parameters: ModelRequestParameters) -> ModelRequestParameters:
        """Return ``parameters`` with tools that are known instead of their copies.

        Models adapt the schema of a tool once per object, which is a third of a request's CPU.
        """
        tools = [self._same_tool(tool) for tool in parameters.function_tools]
        return replace(parameters, function_tools=tools)

    def _same_tool(self, tool: ToolDefinition) -> ToolDefinition:
        known = self._tools.get(tool.name)
        if known is None or _offer(known) != _offer(tool):
            known = self._tools[tool.name] = tool
        return known

    def answered(self, messages: Sequence[ModelMessage], response: ModelResponse) -> None:
        """Remember ``messages``, and ``response`` to them."""
        self._answers[_words(response)] = response
        self._last = (*messages, response)

    def recognize(self, messages: Sequence[ModelMessage]) -> tuple[ModelMessage, ...]:
        """Return ``messages`` with those that are known instead of their copies."""
        found: list[ModelMessage] = []
        for at, message in enumerate(messages):
            if isinstance(message, ModelResponse):
                found.append(self._answers.get(_words(message), message))
                continue
            known = self._last[at] if at < len(self._last) else None
            same = isinstance(known, ModelRequest) and _equal(known, message)
            found.append(known if same and known is not None else message)
        return tuple(found)


def _offer(tool: ToolDefinition) -> tuple[Any, ...]:
    return tool.description, tool.strict, tool.parameters_json_schema


def _words(response: ModelResponse) -> tuple[Any, ...]:
    """Return what protocols send of ``response``, to be looked up."""
    calls = (
        (call.tool_call_id, call.tool_name, _canonical(arguments_of(call)))
        for call in calls_of(response)
    )
    return said(response), *calls


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def _equal(one: ModelRequest, other: ModelRequest) -> bool:
    return len(one.parts) == len(other.parts) and all(
        type(mine) is type(theirs) and _timeless(mine) == _timeless(theirs)
        for mine, theirs in zip(one.parts, other.parts, strict=True)
    )


def _timeless(part: ModelRequestPart) -> dict[str, Any]:
    return {**vars(part), "timestamp": None}


class Ending(StrEnum):
    """How an answer ends, in what all protocols tell apart."""

    SAID = "said"
    CALLS = "calls"
    LENGTH = "length"
    FILTERED = "filtered"


def ending_of(response: ModelResponse) -> Ending:
    """Return how ``response`` ends."""
    match finish_of(response):
        case Finish.LENGTH:
            return Ending.LENGTH
        case Finish.FILTERED:
            return Ending.FILTERED
    return Ending.CALLS if calls_of(response) else Ending.SAID


def calls_of(response: ModelResponse) -> list[ToolCallPart]:
    """Return the calls that the agent is to execute.

    An answer that is the last of its run (``STOP_AFTER``) has none: they are not executed.
    """
    if STOP_AFTER in (response.metadata or {}):
        return []
    return [part for part in response.parts if isinstance(part, ToolCallPart)]


def said(response: ModelResponse) -> str:
    """Return the text of ``response``, as evaluators read it; empty where it has none."""
    return response.text or ""


def texts_of(response: ModelResponse) -> list[str]:
    """Return the texts of ``response``, one for each part that is not empty."""
    return [part.content for part in response.parts if isinstance(part, TextPart) and part.content]


def refusal_of(response: ModelResponse) -> str | None:
    """Return the words in which the model refused; ``None`` unless its provider marks them."""
    refusal = (response.provider_details or {}).get("refusal")
    return refusal if isinstance(refusal, str) and refusal else None


def arguments_of(call: ToolCallPart) -> str:
    """Return the arguments of ``call`` as the model wrote them, which need not be JSON."""
    if isinstance(call.args, str):
        return call.args if call.args.strip() else "{}"
    return json.dumps(call.args or {}, ensure_ascii=False)


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """Return a server-sent event that carries ``data``."""
    line = f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
    return (f"event: {name}\n{line}" if name else line).encode()
