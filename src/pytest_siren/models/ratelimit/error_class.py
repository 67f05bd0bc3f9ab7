"""What a failed request says, whichever library raised it, and what follows from it."""

from __future__ import annotations

import json
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelTimeoutError,
)

from pytest_siren.models.ratelimit import error_codes as known
from pytest_siren.models.wire.errors import AnswerError

_T = TypeVar("_T")

_BROKEN = (
    ModelConnectionError,
    ConnectionError,
    TimeoutError,
    EOFError,
    ssl.SSLError,
    socket.gaierror,
)
_LONGEST = 300

_SPAN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_UNITS = {
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_EPOCH = 1_000_000_000.0
"""Bare numbers from here on are a moment, those below are a number of seconds."""
_LONGEST_ADVICE = 366 * 86_400.0
_REMAINING = re.compile(r"(?:x|anthropic)-ratelimit-(?:[a-z-]+-)?remaining(?:-([a-z-]+))?")


@dataclass(frozen=True)
class Advice:
    """What the headers of one answer say."""

    retry_after: float | None = None
    """Seconds to wait before this request is sent again; ``None`` when they do not say."""
    exhausted: bool = False
    """Whether nothing is left for anybody: a ``remaining`` header is 0."""
    resets_in: float | None = None
    """Seconds until what is exhausted is there again; ``None`` when they do not say."""

    @property
    def wait(self) -> float | None:
        """Seconds to wait by the best that is known; ``None`` when nothing is."""
        return self.retry_after if self.retry_after is not None else self.resets_in


NO_ADVICE = Advice()


@dataclass(frozen=True)
class ErrorDetails:
    """What is known of a request that got no answer."""

    status: int | None = None
    """HTTP status; ``None`` when there was no answer at all, or none over HTTP."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the answer, names in lower case."""
    codes: frozenset[str] = frozenset()
    """Machine-readable codes and types of the error, in lower case."""
    message: str = ""
    """What the provider says: one printable line of at most 300 characters."""
    retry_after: float | None = None
    """Seconds to wait that the provider's body asks for, as Google's does."""
    structured: bool = False
    """Whether the answer was in an API's own form, not a page of some server in between."""
    connection: bool = False
    """Whether the connection failed or was too slow."""
    timeout: bool = False
    connecting: bool = False
    """Whether no connection came about, so that nothing was sent."""
    certificate: bool = False
    """Whether the server's certificate is not trusted."""
    unsendable: str | None = None
    """What of the set-up keeps every request from being sent: ``key`` or ``address``."""
    quota: bool = False
    """pydantic-ai's judgement: the account is exhausted."""
    overloaded: bool = False
    rate_limited: bool = False
    unusable: bool = False
    """Whether there was an answer, with status 200, that is none."""
    again: bool = False
    """Whether one that is none is worth a second request."""
    page: bool = False
    """Whether one that is none seems to be some other server's than the API's."""

    @property
    def advice(self) -> Advice:
        """When to come back, by the headers or else by the body."""
        advice = advice_of(self.headers)
        if advice.wait is None and self.retry_after is not None:
            return Advice(self.retry_after)
        return advice


def details_of(error: BaseException, headers: Mapping[str, str] | None = None) -> ErrorDetails:
    """Return what ``error`` and its causes say.

    ``headers`` are the answer's, names in lower case, if the transport has seen one.
    """
    chain = list(_causes(error))
    answer = next((link for link in chain if isinstance(link, AnswerError)), None)
    if answer is not None:
        return ErrorDetails(
            message=printable(answer.words), unusable=True, again=answer.again, page=answer.page
        )
    status = _first(_status, chain)
    body = _first(_body, chain)
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    names = {base.__name__ for link in chain for base in _library_classes(link)}
    connection = status is None and (bool(names & known.BROKEN_CLASSES) or _any(chain, *_BROKEN))
    timeout = bool(names & known.TIMEOUT_CLASSES) or _any(chain, ModelTimeoutError, TimeoutError)
    return ErrorDetails(
        status=status,
        headers=dict(headers or _first(_headers, chain) or {}),
        codes=_codes(chain, inner),
        message=printable(_message(inner) or _cause(chain) or str(error) or type(error).__name__),
        retry_after=_first(_retry_after, chain),
        structured=isinstance(body, Mapping),
        connection=connection,
        timeout=connection and timeout,
        connecting=connection and _never_connected(chain, names),
        certificate=connection and _any(chain, ssl.SSLCertVerificationError),
        unsendable=_unsendable(chain, names) if status is None else None,
        quota=_any(chain, ModelQuotaExceededError),
        overloaded=_any(chain, ModelOverloadedError),
        rate_limited=_any(chain, ModelRateLimitError),
    )


def printable(text: str) -> str:
    """Return ``text`` as one line that a terminal only shows, of at most 300 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:4_000]).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _first(read: Callable[[BaseException], _T | None], chain: list[BaseException]) -> _T | None:
    return next((found for link in chain if (found := read(link)) is not None), None)


def _any(chain: list[BaseException], *types: type[BaseException]) -> bool:
    return any(isinstance(link, types) for link in chain)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _library_classes(error: BaseException) -> Iterator[type]:
    for base in type(error).__mro__:
        if base.__module__.partition(".")[0] in known.LIBRARIES:
            yield base


def _status(error: BaseException) -> int | None:
    for value in (getattr(error, "status_code", None), getattr(error, "status", None)):
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None


def _headers(error: BaseException) -> dict[str, str] | None:
    response = getattr(error, "response", None)
    for headers in (getattr(error, "headers", None), getattr(response, "headers", None)):
        if isinstance(headers, Mapping) and headers:
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return None


def _retry_after(error: BaseException) -> float | None:
    return error.retry_after if isinstance(error, ModelAPIError) else None


def _body(error: BaseException) -> Any:
    body = getattr(error, "body", None)
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if not isinstance(body, str):
        return body
    try:
        decoded = json.loads(body)
    except ValueError:
        return body
    return decoded if isinstance(decoded, Mapping) else body


def _codes(chain: list[BaseException], inner: Any) -> frozenset[str]:
    found: list[object] = []
    for link in chain:
        if isinstance(link, ModelHTTPError):
            found += [link.provider_error_code, link.provider_error_type]
    if isinstance(inner, Mapping):
        found += [inner.get(key) for key in ("code", "type", "status", "reason")]
        details = inner.get("details")
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, Mapping):
                found.append(detail.get("reason"))
    return frozenset(str(code).lower() for code in found if isinstance(code, str | int))


def _message(inner: Any) -> str:
    if isinstance(inner, str):
        return inner
    if isinstance(inner, Mapping):
        for key in ("message", "detail", "error", "msg"):
            if isinstance(inner.get(key), str):
                return str(inner[key])
    return ""


def _cause(chain: list[BaseException]) -> str:
    """Return why no connection came about: libraries often say no more than that."""
    return next(
        (str(link) for link in chain if _names(link) & known.CONNECT_CLASSES and str(link)), ""
    )


def _names(error: BaseException) -> set[str]:
    return {base.__name__ for base in _library_classes(error)}


def _unsendable(chain: list[BaseException], names: set[str]) -> str | None:
    if names & known.BAD_ADDRESS_CLASSES:
        return "address"
    for link in chain:
        # A key is what a header holds that the user has written.
        if isinstance(link, UnicodeEncodeError) and link.encoding in ("ascii", "latin-1"):
            return "key"
        if isinstance(link, ValueError) and str(link).startswith(known.BAD_HEADER):
            return "key"
        if "OpenAIError" in _names(link) and str(link).startswith(known.NO_KEY):
            return "key"
    return None


def _never_connected(chain: list[BaseException], names: set[str]) -> bool:
    if any(isinstance(link, ModelConnectionError) and link.phase == "connect" for link in chain):
        return True
    refused = (ConnectionRefusedError, ssl.SSLCertVerificationError)
    return bool(names & known.CONNECT_CLASSES) or any(isinstance(link, refused) for link in chain)


def advice_of(headers: Mapping[str, str], now: float | None = None) -> Advice:
    """Read ``headers``, whose names are in lower case; ``now`` is seconds since the epoch.

    Knows ``Retry-After`` (RFC 9110, 10.2.3), ``retry-after-ms``, and ``x-ratelimit-*`` and
    ``anthropic-ratelimit-*`` with ``remaining`` and ``reset``. What cannot be read is not there.
    """
    now = time.time() if now is None else now
    exhausted = [
        reset for name, value in headers.items() if (reset := _exhausted(name, value)) is not None
    ]
    resets = [
        seconds
        for name in exhausted
        if name in headers and (seconds := reset_in(headers[name], now)) is not None
    ]
    return Advice(
        retry_after=_retry_after_header(headers, now),
        exhausted=bool(exhausted),
        resets_in=max(resets, default=None),
    )


def reset_in(value: str, now: float) -> float | None:
    """Return the seconds from ``now`` until ``value``, or ``None`` when it cannot be read.

    ``value`` is a span (``6m0s``, ``20ms``, ``1.5``), seconds or milliseconds since the epoch, an
    ISO 8601 time, or an HTTP date.
    """
    value = value.strip()
    number = _number(value)
    if number is not None:
        if number >= _EPOCH * 1_000:
            number /= 1_000
        return _bounded(number - now if number >= _EPOCH else number)
    spans = _SPAN.findall(value)
    if spans and "".join(amount + unit for amount, unit in spans) == value:
        return _bounded(sum(float(amount) * _UNITS[unit] for amount, unit in spans))
    return _moment_in(value, now)


def _retry_after_header(headers: Mapping[str, str], now: float) -> float | None:
    if "retry-after-ms" in headers:
        milliseconds = _number(headers["retry-after-ms"].strip())
        if milliseconds is not None:
            return _bounded(milliseconds / 1_000)
    if "retry-after" not in headers:
        return None
    value = headers["retry-after"].strip()
    seconds = _number(value)
    return _bounded(seconds) if seconds is not None else reset_in(value, now)


def _exhausted(name: str, value: str) -> str | None:
    """Return the name of the header that tells when, if this one says that nothing is left."""
    if _number(value.strip()) != 0.0 or not _REMAINING.fullmatch(name):
        return None
    return name.replace("remaining", "reset")


def _moment_in(value: str, now: float) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return _bounded(moment.timestamp() - now)
    except (OverflowError, ValueError):
        return None


def _number(value: str) -> float | None:
    if not value.isascii() or "_" in value:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_ADVICE)


class ErrorKind(StrEnum):
    """What follows from a failure."""

    RATE_LIMITED = "rate limited"
    """Too many requests: send fewer, and this one again later."""
    TRANSIENT = "transient"
    """The server or the connection failed: send it again soon, a few times."""
    UNAVAILABLE = "unavailable"
    """Every request on this model will end like this."""
    UNEXPLAINED = "unexplained"
    """Rejected without a reason: the prompt's fault, or everybody's."""
    REJECTED = "rejected"
    """This request's own error."""


class UnavailableReason(StrEnum):
    """Why no request can succeed."""

    KEY = "key"
    QUOTA = "quota"
    MODEL = "model"
    ADDRESS = "address"
    PROXY = "proxy"
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class ErrorClass:
    """The class of a failure, and the reason in a word or two."""

    kind: ErrorKind
    reason: str
    unavailable: UnavailableReason | None = None


_TRANSIENT = frozenset({408, 409, 425})
_FINAL_5XX = frozenset({501, 505})


def classify(details: ErrorDetails) -> ErrorClass:
    """Return the class of the failure that ``details`` describe."""
    status = details.status
    if details.unusable:
        return _unusable(details)
    if status is None and details.unsendable is not None:
        return ErrorClass(ErrorKind.UNAVAILABLE, "not sent", UnavailableReason(details.unsendable))
    if status is None and details.connection:
        return ErrorClass(ErrorKind.TRANSIENT, "time-out" if details.timeout else "connection")
    if unavailable := _unavailable(details):
        return ErrorClass(ErrorKind.UNAVAILABLE, unavailable.value, unavailable)
    if status == 429 or (status is None and details.rate_limited):
        return ErrorClass(ErrorKind.RATE_LIMITED, "rate limit")
    if _is_overload(details):
        return ErrorClass(ErrorKind.RATE_LIMITED, "overloaded")
    if status is None:
        return ErrorClass(ErrorKind.REJECTED, "error")
    if status in _TRANSIENT or (status >= 500 and status not in _FINAL_5XX):
        if details.headers.get("x-should-retry") == "false":
            return ErrorClass(ErrorKind.REJECTED, "error")
        return ErrorClass(
            ErrorKind.TRANSIENT, "time-out" if status in (408, 504) else "server error"
        )
    if status == 403 and not _is_policy(details):
        return ErrorClass(ErrorKind.UNEXPLAINED, "rejected", UnavailableReason.KEY)
    if status == 404 and not known.THING_NOT_FOUND.search(details.message):
        return ErrorClass(ErrorKind.UNEXPLAINED, "rejected", UnavailableReason.ADDRESS)
    return ErrorClass(ErrorKind.REJECTED, "error")


def _unusable(details: ErrorDetails) -> ErrorClass:
    if details.again:
        return ErrorClass(ErrorKind.TRANSIENT, "no answer")
    if details.page:
        return ErrorClass(ErrorKind.UNEXPLAINED, "no answer", UnavailableReason.ADDRESS)
    return ErrorClass(ErrorKind.REJECTED, "no answer")


def _unavailable(details: ErrorDetails) -> UnavailableReason | None:
    """Return what is wrong with the account, the key or the model, if the provider says so."""
    status, message = details.status, details.message
    client_error = status is None or 400 <= status < 500
    if details.quota or status == 402 or details.codes & known.QUOTA_CODES:
        return UnavailableReason.QUOTA
    if client_error and details.structured and known.QUOTA_WORDS.search(message):
        return UnavailableReason.QUOTA
    if status == 407:
        return UnavailableReason.PROXY
    if status == 401 or (status == 400 and details.codes & known.KEY_CODES):
        return UnavailableReason.KEY
    if status == 400 and details.structured and known.BAD_KEY_WORDS.search(message):
        return UnavailableReason.KEY
    if details.codes & known.MODEL_CODES:
        return UnavailableReason.MODEL
    if status in (400, 404) and details.structured and not known.THING_NOT_FOUND.search(message):
        if known.MODEL_WORDS.search(message):
            return UnavailableReason.MODEL
    if status == 403 and details.structured and not _is_policy(details):
        if details.codes & known.KEY_CODES or known.KEY_WORDS.search(message):
            return UnavailableReason.KEY
    return None


def _is_policy(details: ErrorDetails) -> bool:
    return (
        bool(details.codes & known.POLICY_CODES)
        or known.POLICY_WORDS.search(details.message) is not None
    )


def _is_overload(details: ErrorDetails) -> bool:
    if details.overloaded or details.status == 529:
        return True
    if details.status != 503:
        return False
    says = any(known.OVERLOADED_WORDS.search(text) for text in (details.message, *details.codes))
    return says or bool({"retry-after", "retry-after-ms"} & details.headers.keys())
