"""What is sent to a provider and what comes back, as both sides expect it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
from pydantic import ValidationError
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage
from pydantic_core import from_json

from pytest_siren.models.wire.errors import AnswerError, BodyError, error_in
from pytest_siren.models.wire.repair import Api, api_of, billed, complete, has_answer, repair
from pytest_siren.models.wire.text import decodable, sendable, sendable_message

_EXCERPT = 400


@dataclass(slots=True)
class Received:
    """The latest answer to one request, if its status is that of an answer."""

    api: Api | None = None
    content: bytes | None = None
    """The body; ``None`` when the transport has seen no answer."""
    body: Any = None
    """Its JSON data."""
    usage_problem: str | None = None
    """What is odd about its usage, as the end of a sentence: ``is missing``."""
    measured: bool = True
    """Whether all of its tokens are known."""

    @property
    def excerpt(self) -> str:
        """The beginning of the body, for messages."""
        return (self.content or b"")[:_EXCERPT].decode(errors="replace").strip()

    def billed(self) -> RequestUsage | None:
        """Return the tokens that the body tells of, be it an answer or none."""
        if self.api is None or not isinstance(self.body, Mapping):
            return None
        return billed(self.api, self.body)


RECEIVED: ContextVar[Received | None] = ContextVar("pytest_siren_received", default=None)
"""Of the request that is being made; ``None`` where nobody wants to know."""


_REDIRECTS = frozenset({301, 302, 307, 308})
_MOST_REDIRECTS = 3
_DROPPED = frozenset(
    {b"content-encoding", b"content-length", b"transfer-encoding", b"content-type"}
)


class Answers(httpx2.AsyncBaseTransport):
    """Looks at every answer of ``transport`` that is not streamed.

    Follows redirects to the same host, with the method and the body of the request. Raises
    ``AnswerError`` and what ``transport`` raises.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._followed(request)
        if _streams(request, response):
            return response
        received = RECEIVED.get() or Received()
        try:
            content = await response.aread()
        except httpx2.DecodingError as error:
            if response.status_code >= 400:
                return _rebuilt(request, response, response.status_code, b"")
            words = f"the provider's answer cannot be unpacked: {error}"
            raise AnswerError(words, again=True) from error
        if response.status_code >= 400:
            return _with_plain_error(request, response, content)
        received.content = content
        return _checked(request, response, content, received)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _followed(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._transport.handle_async_request(request)
        for _ in range(_MOST_REDIRECTS):
            if response.status_code not in _REDIRECTS:
                break
            target = _same_host(request, response.headers.get("location", ""))
            if target is None:
                break
            await response.aclose()
            request = _moved(request, target)
            response = await self._transport.handle_async_request(request)
        if 300 <= response.status_code < 400:
            await response.aclose()
            place = response.headers.get("location", "nowhere")[:200]
            words = f"the server redirects to {place} ({response.status_code})"
            raise AnswerError(words, page=True)
        return response


def _moved(request: httpx2.Request, target: str) -> httpx2.Request:
    headers = [item for item in request.headers.raw if item[0].lower() != b"host"]
    return httpx2.Request(
        request.method,
        target,
        headers=headers,
        content=request.content,
        extensions=request.extensions,
    )


def _same_host(request: httpx2.Request, location: str) -> str | None:
    """Return the URL that ``location`` leads to, unless the key should not be sent there."""
    if not location or not hasattr(request, "_content"):
        return None
    here = urlsplit(str(request.url))
    try:
        target = urljoin(str(request.url), location)
        there = urlsplit(target)
        safe = there.scheme == here.scheme or there.scheme == "https"
        # Another port of the host may be another's, unless it is the other scheme's usual one.
        same = there.netloc == here.netloc or (
            there.hostname == here.hostname and there.scheme != here.scheme and there.port is None
        )
    except ValueError:
        return None
    return target if safe and same else None


def _streams(request: httpx2.Request, response: httpx2.Response) -> bool:
    if response.status_code >= 300:
        return False
    if "stream" in request.url.path.lower():
        return True
    kind = response.headers.get("content-type", "")
    # A gateway may stream what nobody asked it to.
    return "event-stream" in kind and b'"stream":true' in _asked(request).replace(b" ", b"")


def _asked(request: httpx2.Request) -> bytes:
    return request.content if hasattr(request, "_content") else b""


def _with_plain_error(
    request: httpx2.Request, response: httpx2.Response, content: bytes
) -> httpx2.Response:
    """Return an error whose body is an object, as it is not for all gateways."""
    if not content.lstrip().startswith(b"["):
        return response
    try:
        found = error_in(json.loads(content), answered=False)
    except (ValueError, RecursionError):
        return response
    if found is None:
        return response
    return _rebuilt(request, response, response.status_code, _error_body(found))


def _checked(
    request: httpx2.Request, response: httpx2.Response, content: bytes, received: Received
) -> httpx2.Response:
    api = received.api = api_of(request.url.path)
    try:
        body, changed = _decoded(response, content, received)
        received.body = body
    except AnswerError:
        if api is None:
            return response
        raise
    answered = api is None or (isinstance(body, Mapping) and has_answer(api, body))
    found = error_in(body, answered=answered)
    if found is not None or not answered:
        if found is None:
            raise _no_answer(received)
        if found.status is None:
            raise AnswerError(f"the provider answers with an error: {found.message}")
        return _rebuilt(request, response, found.status, _error_body(found))
    if api is not None and isinstance(body, dict):
        changed = complete(api, body) or changed
        given = body.get(api.usage)
        repaired = repair(api, body)
        changed = changed or body.get(api.usage) is not given
        if repaired is not None:
            received.usage_problem = repaired.problem
            received.measured = repaired.measured
    if not changed and "json" in response.headers.get("content-type", ""):
        return response
    if changed:
        content = json.dumps(body, ensure_ascii=False).encode()
    return _rebuilt(request, response, response.status_code, content)


def _decoded(response: httpx2.Response, content: bytes, received: Received) -> tuple[Any, bool]:
    """Return the JSON data of ``content``, and whether it had to be mended."""
    try:
        return from_json(content), False
    except ValueError:
        if content.lstrip()[:6] in (b"data: ", b"event:"):
            return _event(content, received), True
    try:
        try:
            value = json.loads(content)
        except UnicodeDecodeError:
            encoding = response.charset_encoding or "utf-8"
            value = json.loads(content.decode(encoding, errors="replace"))
    except (ValueError, RecursionError, LookupError) as error:
        raise _unreadable(content, received.excerpt) from error
    return decodable(value), True


def _event(content: bytes, received: Received) -> Any:
    """Return the data of events that an answer came in: the error in them, or the one there is."""
    found: list[Any] = []
    for line in content.splitlines():
        name, _, data = line.partition(b":")
        if name.strip() == b"data":
            with suppress(ValueError):
                found.append(from_json(data.strip()))
    told = next((one for one in found if error_in(one, answered=True) is not None), None)
    if told is not None:
        return told
    if len(found) == 1:
        return found[0]
    words = f"the provider streams its answer, which nobody asked for: {received.excerpt}"
    raise AnswerError(words)


def _unreadable(content: bytes, excerpt: str) -> AnswerError:
    start = content.lstrip()[:1]
    if not start:
        return AnswerError("the provider's answer is empty", again=True, page=True)
    if start in (b"{", b"["):
        return AnswerError(
            f"the provider's answer breaks off, or is no JSON: {excerpt}", again=True
        )
    return AnswerError(f"the provider's answer is no JSON: {excerpt}", again=True, page=True)


def _no_answer(received: Received) -> AnswerError:
    api, body = received.api, received.body
    if api is None or not isinstance(body, Mapping):
        words = f"the provider's answer is not an object: {received.excerpt}"
        return AnswerError(words, again=True, page=True)
    tokens = received.billed()
    cost = f" but {tokens.total_tokens:,} tokens" if tokens is not None else ""
    return AnswerError(f"the provider's answer has no {api.answer}{cost}: {received.excerpt}")


def _error_body(found: BodyError) -> bytes:
    body = {"type": "error", "error": found.found}
    return json.dumps(decodable(body), ensure_ascii=False, default=str).encode()


def _rebuilt(
    request: httpx2.Request, response: httpx2.Response, status: int, content: bytes
) -> httpx2.Response:
    headers = [item for item in response.headers.raw if item[0].lower() not in _DROPPED]
    return httpx2.Response(
        status,
        headers=[*headers, (b"content-type", b"application/json")],
        content=content,
        request=request,
    )


_NEVER = (ModelAPIError, ContentFilterError, UserError)
"""These have words of their own."""
_ALWAYS = (ValidationError, json.JSONDecodeError, IndexError)
"""Only an answer makes a library raise these, whether or not the transport has seen it."""
_AFTER_ARRIVAL = (AttributeError, LookupError, TypeError, ValueError, AssertionError)


@contextmanager
def reading(received: Received) -> Iterator[None]:
    """Raise ``AnswerError`` in place of the errors of a library that cannot read an answer."""
    try:
        yield
    except _NEVER:
        raise
    except UnexpectedModelBehavior as error:
        if not isinstance(error.__cause__, ValidationError) and "Invalid response" not in str(
            error
        ):
            raise
        raise _reading_unreadable(error.__cause__ or error, received) from error
    except (*_ALWAYS, *_AFTER_ARRIVAL) as error:
        if not (received.content is not None or isinstance(error, _ALWAYS)):
            raise
        raise _reading_unreadable(error, received) from error


def _reading_unreadable(error: BaseException, received: Received) -> AnswerError:
    text = f": {received.excerpt}" if received.content else ""
    return AnswerError(f"the provider's answer is not what its API promises ({_why(error)}){text}")


def _why(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        places = (".".join(map(str, problem["loc"])) for problem in error.errors()[:3])
        return f"at {', '.join(dict.fromkeys(places))}"
    return type(error).__name__


_MOST = 64


class OddDataWarning(UserWarning):
    """A model or its provider was sent, or sent, what had to be mended."""

    loses_no_run = True
    """It stays a warning where others are turned into errors."""


class Notes:
    """What is worth a warning, once in a process for each model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._given: set[str] = set()

    def give(self, text: str) -> None:
        """Warn of ``text``, the end of a sentence that begins with the model."""
        if text not in self._given:
            self._given.add(text)
            warnings.warn(OddDataWarning(f"model {self._model!r}: {text}"), stacklevel=3)


class Outgoing:
    """Replaces what cannot be sent in the requests to one model, and warns of it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        # With the objects themselves, so that nothing else gets their ids.
        self._tools: dict[tuple[int, ...], tuple[Sequence[ToolDefinition], list[ToolDefinition]]]
        self._tools = {}

    def messages(
        self, messages: list[ModelMessage], known: dict[int, tuple[ModelMessage, ModelMessage]]
    ) -> list[ModelMessage]:
        """Return ``messages`` as they can be sent.

        ``known`` are those of the same conversation that have been looked at, by id: each with the
        one that is sent. New ones are added.
        """
        cleaned = []
        for message in messages:
            found = known.get(id(message))
            if found is None:
                found = known[id(message)] = (message, sendable_message(message))
            cleaned.append(found[1])
            if found[1] is not message:
                self._note()
        return cleaned

    def settings(self, settings: ModelSettings | None) -> ModelSettings | None:
        """Return ``settings`` as they can be sent."""
        cleaned: ModelSettings | None = sendable(settings)
        if cleaned is not settings:
            self._note()
        return cleaned

    def parameters(self, parameters: ModelRequestParameters) -> ModelRequestParameters:
        """Return ``parameters`` with tools that can be sent; each list is looked at once."""
        tools = parameters.function_tools
        key = tuple(map(id, tools))
        known = self._tools.get(key)
        if known is None:
            if len(self._tools) >= _MOST:
                self._tools.clear()
            known = self._tools[key] = (tuple(tools), sendable(list(tools)))
        if all(one is two for one, two in zip(tools, known[1], strict=True)):
            return parameters
        self._note()
        return replace(parameters, function_tools=known[1])

    def _note(self) -> None:
        self._notes.give(
            "what no provider accepts (lone surrogates, NUL, numbers that are not finite) was "
            "replaced in what is sent to it"
        )
