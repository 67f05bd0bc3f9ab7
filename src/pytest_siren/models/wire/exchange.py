"""What is sent to a provider and what comes back, as both sides expect it."""

from __future__ import annotations

import inspect
import json
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
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
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage
from pydantic_core import from_json, to_json

from pytest_siren.models.wire.errors import (
    CONNECTION_ERRORS,
    AnswerError,
    BodyError,
    error_in,
    raise_as_httpx,
)
from pytest_siren.models.wire.repair import Api, api_of, billed, complete, has_answer, repair
from pytest_siren.models.wire.text import decodable, sendable, sendable_message

_EXCERPT = 400


@dataclass(slots=True)
class RequestTrace:
    """What the transport notices of one request and its latest answer."""

    headers: Mapping[str, str] | None = None
    """The answer's, names in lower case; ``None`` when the transport has seen none."""
    latency: float | None = None
    """Seconds between the request's arrival at the transport and the answer's last byte."""
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


TRACE: ContextVar[RequestTrace | None] = ContextVar("pytest_siren_trace", default=None)
"""Of the request that is being made; ``None`` where nobody wants to know."""


_ERROR_KEY = re.compile(rb'"(?:error|errors|fault|base_resp|err)"\s*:')
_REDIRECTS = frozenset({301, 302, 307, 308})
_MOST_REDIRECTS = 3
_DROPPED = frozenset(
    {b"content-encoding", b"content-length", b"transfer-encoding", b"content-type"}
)


class Answers(httpx2.AsyncBaseTransport):
    """Looks at every answer of ``transport`` that is not streamed.

    Follows redirects to the same host, with the method and the body of the request. Raises
    ``AnswerError``, and httpx's ``TransportError`` also where ``transport`` raises aiohttp's.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        trace = TRACE.get() or RequestTrace()
        started = time.monotonic()
        try:
            return await self._answered(request, trace)
        except CONNECTION_ERRORS as error:
            raise_as_httpx(error)
        finally:
            trace.latency = time.monotonic() - started

    async def _answered(self, request: httpx2.Request, trace: RequestTrace) -> httpx2.Response:
        response = await self._followed(request)
        trace.headers = response.headers
        if _streams(request, response):
            return response
        try:
            content = await response.aread()
        except httpx2.DecodingError as error:
            if response.status_code >= 400:
                return _rebuilt(request, response, response.status_code, b"")
            words = f"the provider's answer cannot be unpacked: {error}"
            raise AnswerError(words, again=True) from error
        if response.status_code >= 400:
            return _with_plain_error(request, response, content)
        trace.content = content
        return _checked(request, response, content, trace)

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
    request: httpx2.Request, response: httpx2.Response, content: bytes, trace: RequestTrace
) -> httpx2.Response:
    api = trace.api = api_of(request.url.path)
    try:
        body, changed = _decoded(response, content, trace)
        trace.body = body
    except AnswerError:
        if api is None:
            return response
        raise
    answered = api is None or (isinstance(body, Mapping) and has_answer(api, body))
    # Hardly any answer names an error.
    plain = answered and not changed and not _ERROR_KEY.search(content)
    found = None if plain else error_in(body, answered=answered)
    if found is not None or not answered:
        if found is None:
            raise _no_answer(trace)
        if found.status is None:
            raise AnswerError(f"the provider answers with an error: {found.message}")
        return _rebuilt(request, response, found.status, _error_body(found))
    if api is not None and isinstance(body, dict):
        changed = complete(api, body) or changed
        given = body.get(api.usage)
        repaired = repair(api, body)
        changed = changed or body.get(api.usage) is not given
        if repaired is not None:
            trace.usage_problem = repaired.problem
            trace.measured = repaired.measured
    if not changed and "json" in response.headers.get("content-type", ""):
        return response
    if changed:
        content = json.dumps(body, ensure_ascii=False).encode()
    return _rebuilt(request, response, response.status_code, content)


def _decoded(response: httpx2.Response, content: bytes, trace: RequestTrace) -> tuple[Any, bool]:
    """Return the JSON data of ``content``, and whether it had to be mended."""
    try:
        return from_json(content), False
    except ValueError:
        if content.lstrip()[:6] in (b"data: ", b"event:"):
            return _event(content, trace), True
    try:
        try:
            value = json.loads(content)
        except UnicodeDecodeError:
            encoding = response.charset_encoding or "utf-8"
            value = json.loads(content.decode(encoding, errors="replace"))
    except (ValueError, RecursionError, LookupError) as error:
        raise _unreadable(content, trace.excerpt) from error
    return decodable(value), True


def _event(content: bytes, trace: RequestTrace) -> Any:
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
    words = f"the provider streams its answer, which nobody asked for: {trace.excerpt}"
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


def _no_answer(trace: RequestTrace) -> AnswerError:
    api, body = trace.api, trace.body
    if api is None or not isinstance(body, Mapping):
        words = f"the provider's answer is not an object: {trace.excerpt}"
        return AnswerError(words, again=True, page=True)
    tokens = trace.billed()
    cost = f" but {tokens.total_tokens:,} tokens" if tokens is not None else ""
    return AnswerError(f"the provider's answer has no {api.answer}{cost}: {trace.excerpt}")


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
def reading(trace: RequestTrace) -> Iterator[None]:
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
        raise _reading_unreadable(error.__cause__ or error, trace) from error
    except (*_ALWAYS, *_AFTER_ARRIVAL) as error:
        if not (trace.content is not None or isinstance(error, _ALWAYS)):
            raise
        raise _reading_unreadable(error, trace) from error


def _reading_unreadable(error: BaseException, trace: RequestTrace) -> AnswerError:
    text = f": {trace.excerpt}" if trace.content else ""
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
                sent = message if _plainly_sendable(message) else sendable_message(message)
                found = known[id(message)] = (message, sent)
            cleaned.append(found[1])
            if found[1] is not message:
                self._note()
        return cleaned

    def settings(self, settings: ModelSettings | None) -> ModelSettings | None:
        """Return ``settings`` as they can be sent."""
        if settings is None or _plainly_sendable(settings):
            return settings
        cleaned: ModelSettings = sendable(settings)
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
            cleaned = tools if _plainly_sendable(tools) else sendable(list(tools))
            known = self._tools[key] = (tuple(tools), list(cleaned))
        if all(one is two for one, two in zip(tools, known[1], strict=True)):
            return parameters
        self._note()
        return replace(parameters, function_tools=known[1])

    def _note(self) -> None:
        self._notes.give(
            "what no provider accepts (lone surrogates, NUL, numbers that are not finite) was "
            "replaced in what is sent to it"
        )


class RememberedTools:
    """Adapts the schemas of the same tools once, not for each request: 15 % of its CPU.

    ``customize`` is a model's ``customize_request_parameters``, which looks at each tool alone.
    """

    def __init__(self, customize: Callable[[ModelRequestParameters], ModelRequestParameters]):
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
        if known is None:
            customized = self._customize(parameters)
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[key] = (tuple(tools), tuple(customized.function_tools))
        return replace(parameters, function_tools=list(known[1]))


def remember_tools(model: Model) -> None:
    """Let ``model`` adapt its tools by ``RememberedTools``, unless it has a way of its own."""
    if type(model).customize_request_parameters is Model.customize_request_parameters:
        remembered = RememberedTools(model.customize_request_parameters)
        model.customize_request_parameters = remembered  # type: ignore[method-assign, assignment]


_FIRST = ("model", "stream", "service_tier", "messages")
"""What OpenAI's bodies begin with; the rest is in the order of the alphabet."""
_OUTSIDE = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})
"""Arguments of OpenAI's methods that are no properties of a body."""


def plain_data_as_given(
    create: Callable[..., Awaitable[Any]], path: str, cast_to: type, omitted: tuple[type, ...]
) -> Callable[..., Awaitable[Any]]:
    """Return OpenAI's method ``create`` without the rewriting of what is JSON data already.

    ``create`` rebuilds messages, tools and schemas by their type annotations, to turn models,
    iterators and files into JSON data. pydantic-ai gives it JSON data, of which that makes an equal
    copy: with two dozen tools, a third of a run's CPU. The bytes that are sent are the same either
    way. Streams, and arguments that are no JSON data, are left to ``create`` itself. Arguments of
    the types ``omitted`` are not sent.
    """
    parameters = inspect.signature(create).parameters
    required = {name for name, one in parameters.items() if one.default is one.empty} - {"self"}

    @wraps(create)
    async def created(self: Any, **arguments: Any) -> Any:
        fit = required <= arguments.keys() <= parameters.keys() and not arguments.get("stream")
        content = _plain_json(arguments, omitted) if fit else None
        if content is None:
            return await create(self, **arguments)
        options = _post_options(arguments, omitted)
        return await self._post(path, content=content, options=options, cast_to=cast_to)

    return created


def _plain_json(arguments: Mapping[str, Any], omitted: tuple[type, ...]) -> bytes | None:
    """Return the body of a request; ``None`` when its arguments are no JSON data."""
    names = arguments.keys() - _OUTSIDE
    ordered = [*(name for name in _FIRST if name in names), *sorted(names.difference(_FIRST))]
    body = _without({name: arguments[name] for name in ordered}, omitted)
    try:
        if (extra := arguments.get("extra_body")) is not None:
            body = _without({**body, **extra}, omitted)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        return None


def _post_options(arguments: Mapping[str, Any], omitted: tuple[type, ...]) -> dict[str, Any]:
    """Return the arguments outside the body as OpenAI's ``post`` takes them."""
    options: dict[str, Any] = {"security": {"bearer_auth": True}}
    if (headers := arguments.get("extra_headers")) is not None:
        options["headers"] = headers
    if (query := arguments.get("extra_query")) is not None:
        options["params"] = query
    if "timeout" in arguments:
        options["timeout"] = arguments["timeout"]
    return _without(options, omitted)


def _without(values: Mapping[str, Any], omitted: tuple[type, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, omitted)}


_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|NaN|Infinity|\d[eE]\+?\d{3}|\d{309}")
"""What JSON holds if it holds anything that cannot be sent; of escapes, also those in its text."""


def _plainly_sendable(value: object) -> bool:
    """Tell whether ``value`` can be sent as it is; ``False`` where only a closer look tells."""
    try:
        content = to_json(value, bytes_mode="base64", inf_nan_mode="constants")
    except (ValueError, RecursionError):
        return False
    return _SUSPICIOUS.search(content) is None
