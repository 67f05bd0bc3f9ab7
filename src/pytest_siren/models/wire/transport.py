"""A transport that hands on answers as the libraries of providers expect them.

An error that comes with status 200 gets the status that it speaks of, so that it is what it would
have been with that status: the same exception, sent again or not. What is no answer at all is an
``AnswerError`` instead of whatever a library makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
from pydantic_core import from_json

from pytest_siren.models.wire.apis import api_of, has_answer
from pytest_siren.models.wire.envelope import complete
from pytest_siren.models.wire.errors import AnswerError, BodyError, error_in
from pytest_siren.models.wire.received import RECEIVED, Received
from pytest_siren.models.wire.text import decodable
from pytest_siren.models.wire.usage import repair

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
