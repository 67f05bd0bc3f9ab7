"""What a provider says in its headers about when to come back."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
_LONGEST = 366 * 86_400.0
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
        retry_after=_retry_after(headers, now),
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


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
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
    return min(max(seconds, 0.0), _LONGEST)
