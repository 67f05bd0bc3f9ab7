"""Faults that the server makes on demand: refusals, errors and broken connections."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from benchmarks.answers import http

KINDS = ("429", "500", "reset", "quota")


@dataclass
class Faults:
    """Which share of the requests goes wrong, and how. The draw is the same for a ``seed``.

    ``shares`` maps a kind to 0..1: ``429`` (with ``Retry-After``), ``500``, ``reset`` (the
    connection is cut without an answer) and ``quota`` (429 with the code ``insufficient_quota``).
    Beyond ``max_in_flight`` requests at a time every further one is a ``429``; 0 is no limit.
    Requests that come earlier than ``begin`` seconds after the first, or later than ``seconds``
    after that, are all answered well.
    """

    shares: dict[str, float] = field(default_factory=dict)
    retry_after: float = 1.0
    seconds: float | None = None
    max_in_flight: int = 0
    seed: int = 0
    begin: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._none = not self.shares and not self.max_in_flight
        retry = f"retry-after: {self.retry_after:g}\r\n"
        self.answers = {
            "429": http(429, _error("Rate limit reached", "rate_limit_exceeded"), retry),
            "500": http(500, _error("The server had an error", "server_error")),
            "quota": http(429, _error("You exceeded your current quota", "insufficient_quota")),
        }

    def draw(self, since_first: float, in_flight: int) -> str | None:
        """Return the kind of fault that this request meets; ``None`` for none.

        ``since_first`` is in seconds; ``in_flight`` counts the requests besides this one.
        """
        since_begin = since_first - self.begin
        if self._none or since_begin < 0:
            return None
        if self.seconds is not None and since_begin > self.seconds:
            return None
        if self.max_in_flight and in_flight >= self.max_in_flight:
            return "429"
        drawn = self._random.random()
        for kind, share in self.shares.items():
            if drawn < share:
                return kind
            drawn -= share
        return None


def parse(text: str) -> dict[str, float]:
    """Read shares such as ``429=0.3,500=0.05``. Raises ``ValueError``."""
    shares = {}
    for part in filter(None, text.split(",")):
        kind, _, share = part.partition("=")
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; known: {', '.join(KINDS)}")
        shares[kind] = float(share)
    if not 0.0 <= sum(shares.values()) <= 1.0:
        raise ValueError(f"the shares of {text!r} do not add up to 0..1")
    return shares


def _error(message: str, code: str) -> dict[str, dict[str, str | None]]:
    kind = code if code == "insufficient_quota" else "requests"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
