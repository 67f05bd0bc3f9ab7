"""Errors inside answers with status 200, and those of connections, as libraries expect them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
import httpx2
from pydantic_ai.exceptions import ModelAPIError

_INSIDE = frozenset({"error", "errors", "fault", "base_resp", "err"})
"""Keys of an object, or a list of objects, that says what went wrong."""
_WORDS = (
    *("message", "detail", "msg", "error_message", "error_msg", "status_msg", "faultstring"),
    *("error_description", "error", "title", "reason", "Message"),
)
_NUMBERS = ("code", "status", "status_code", "statusCode", "http_status", "httpCode", "error_code")
_NAMES = ("code", "type", "status", "reason", "error_type", "error_code")
_NO_ERROR = frozenset({"", "0", "200", "ok", "success", "none", "null", "false"})
_STATUS_BY_NAME = (
    (re.compile(r"insufficient_quota|quota_exceeded|billing_hard_limit"), 429),
    (re.compile(r"billing|insufficient_(?:balance|credits|funds)|payment_required"), 402),
    (re.compile(r"rate_?limit|too_many_requests|throttl|resource_?exhausted"), 429),
    (re.compile(r"overloaded|over_capacity|engine_busy"), 529),
    (re.compile(r"unauthenticated|authentication|unauthori[sz]ed|invalid_api_key"), 401),
    (re.compile(r"permission|forbidden|access_denied"), 403),
    (re.compile(r"(?:^|_)not_found|no_such_model"), 404),
    (re.compile(r"deadline_exceeded|time_?d?_?out"), 504),
    (re.compile(r"(?:service|temporarily)_?unavailable|^unavailable$"), 503),
    (re.compile(r"bad_gateway|upstream"), 502),
    (re.compile(r"(?:internal|server)_?(?:server_)?error|^(?:internal|api_error)$"), 500),
    (
        re.compile(
            r"invalid_(?:request|argument|prompt|parameter|value|type)|failed_precondition"
            r"|context_length|content_(?:filter|policy)|string_above_max|too_large|bad_request"
        ),
        400,
    ),
)
# Words are looked at only where there is no code, and then only for these two.
_STATUS_BY_WORDS = (
    (re.compile(r"rate limit|too many requests", re.IGNORECASE), 429),
    (re.compile(r"\boverloaded\b|over capacity", re.IGNORECASE), 529),
)
_LONGEST = 2_000


class AnswerError(httpx2.TransportError):
    """The answer is none, and does not say so by its status.

    ``again`` tells whether it is worth asking once more, ``page`` whether some other server than
    the API seems to have answered.
    """

    def __init__(self, words: str, *, again: bool = False, page: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.again = again
        self.page = page


class UnusableAnswerError(ModelAPIError):
    """What a provider sent with status 200 is no answer; the message quotes it."""


_TRANSLATIONS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientError, httpx2.ReadError),
    (OSError, httpx2.ReadError),
)
"""The first that fits counts."""


CONNECTION_ERRORS = (httpx2.TransportError, aiohttp.ClientError, OSError)
"""What a connection raises, by httpx, by aiohttp or as it is; time-outs are ``OSError``."""


def raise_as_httpx(error: Exception) -> NoReturn:
    """Raise what httpx would have raised where aiohttp, below it, raised ``error``.

    ``httpx_aiohttp`` raises some of aiohttp's errors as they are, and takes a connection that broke
    for one that never came about. Raises ``error`` itself where aiohttp is not its cause.
    """
    below = error.__cause__ if isinstance(error, httpx2.TransportError) else error
    for theirs, ours in _TRANSLATIONS:
        if isinstance(below, theirs):
            raise ours(str(below) or type(below).__name__) from below
    raise error


@dataclass(frozen=True)
class BodyError:
    """An error as a body tells it."""

    status: int | None
    """The HTTP status that it ought to have had; ``None`` when the body does not tell."""
    message: str
    found: Mapping[str, Any]
    """The error object, which has a ``message``."""


def error_in(body: Any, *, answered: bool) -> BodyError | None:
    """Return the error that ``body`` tells of; ``None`` when it tells of none.

    Whether it is ``answered`` decides what words beside an answer mean.
    """
    if isinstance(body, list):
        found = (error_in(part, answered=False) for part in body[:8])
        return next((error for error in found if error is not None), None)
    if not isinstance(body, Mapping):
        return None
    for part in _parts(body):
        if (error := _error(part, body)) is not None:
            return error
    if answered or not (_words(body) or _number(body)):
        return None
    return _error(body, body)


def _parts(body: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what may be an error object, outermost first."""
    holders = [body]
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            holders.append(choice)
            message = choice.get("message")
            if isinstance(message, dict):
                holders.append(message)
    for holder in holders:
        # Hardly any has one, and this is looked at for each answer.
        for key in _INSIDE & holder.keys():
            value = holder[key]
            if value:
                yield from value if isinstance(value, list) else (value,)


def _error(part: Any, body: Mapping[str, Any]) -> BodyError | None:
    if isinstance(part, int) and not isinstance(part, bool):
        part = {"code": part}
    if isinstance(part, str):
        if part.strip().lower() in _NO_ERROR:
            return None
        part = {"message": part}
    if not isinstance(part, Mapping):
        return None
    while isinstance(part.get("error"), Mapping):
        part = part["error"]
    message = _words(part)
    names = _names(part)
    status = _number(part) or (None if part is body else _number(body))
    if status is None and not (message or names):
        return None
    if status is None:
        # Cloud gateways name the kind of error beside the object, not in it.
        status = _by_name([*names, *_names(body)]) or _by_words(message)
    message = message or ", ".join(names) or "the provider gives no reason"
    return BodyError(status, message, {**part, "message": message})


def _words(part: Mapping[str, Any]) -> str:
    for key in _WORDS:
        value = part.get(key)
        if isinstance(value, list) and value:
            value = _words(value[0]) if isinstance(value[0], Mapping) else value[0]
        if isinstance(value, str) and value.strip().lower() not in _NO_ERROR:
            return value[:_LONGEST]
    return ""


def _names(part: Mapping[str, Any]) -> list[str]:
    values = [part.get(key) for key in _NAMES]
    detail = part.get("detail")
    if isinstance(detail, Mapping):
        values.append(detail.get("errorcode"))
    names = [str(value) for value in values if isinstance(value, str | int) and value is not True]
    return [name for name in names if name.strip().lower() not in _NO_ERROR]


def _number(part: Mapping[str, Any]) -> int | None:
    for key in _NUMBERS:
        value = part.get(key)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
            value = int(value.strip()[:6])
        if isinstance(value, int | float) and 400 <= value < 600 and value == int(value):
            return int(value)
    return None


def _by_name(names: list[str]) -> int | None:
    for name in names:
        # RESOURCE_EXHAUSTED, RateLimitError, rate-limit and rate_limit are one.
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s.:-]+", "_", name[:200]).lower()
        for pattern, status in _STATUS_BY_NAME:
            if pattern.search(snake):
                return status
    return None


def _by_words(message: str) -> int | None:
    return next((status for words, status in _STATUS_BY_WORDS if words.search(message)), None)
