"""Usage as providers report it, made whole as far as it is known.

Libraries refuse a good answer whose usage is not exactly what they expect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.usage import RequestUsage

from pytest_siren.models.wire.apis import CHAT, GENERATE, MESSAGES, RESPONSES, Api

_MOST = 10**12
"""No request has so many tokens."""
_COUNTS = ("tokens", "TokenCount", "tokenCount")
"""How the names of counts end; what else is in usage is left as it is."""

MISSING = "is missing"
INCOMPLETE = "is incomplete"
IMPOSSIBLE = "holds counts that cannot be"
CONTRADICTORY = "contradicts itself"
ROUNDED = "holds fractions of tokens"


@dataclass
class _Findings:
    problems: dict[str, None] = field(default_factory=dict)
    """In the order in which they were found."""
    changed: bool = False


@dataclass(frozen=True)
class Repair:
    """What was wrong with the usage of an answer, and has been put right in it."""

    problem: str
    """As the end of a sentence."""
    measured: bool
    """Whether all tokens are known after all."""


def repair(api: Api, body: dict[str, Any]) -> Repair | None:
    """Make the usage in ``body`` what libraries expect; return ``None`` if it was.

    A count that is missing or impossible becomes 0, and the answer counts as not measured.
    """
    given = body.get(api.usage)
    if not isinstance(given, dict) or not given:
        _set(api, body, None)
        return Repair(MISSING, False)
    found = _Findings()
    usage = _cleaned(given, found)
    _complete(api, usage, found)
    _check_cached(api, usage, found)
    _check_sum(api, usage, found)
    unmeasured = [problem for problem in found.problems if problem != ROUNDED]
    if api.input not in usage and api.output not in usage:
        _set(api, body, None)
    elif _fill(api, usage) or found.changed or found.problems:
        _set(api, body, usage)
    if not found.problems:
        return None
    return Repair((unmeasured or [*found.problems])[0], not unmeasured)


def billed(api: Api, body: Mapping[str, Any]) -> RequestUsage | None:
    """Return the tokens of a body that is no answer; ``None`` when it does not tell of any."""
    given = body.get(api.usage)
    if not isinstance(given, dict) or not given:
        return None
    copy: dict[str, Any] = {api.usage: given}
    repaired = repair(api, copy)
    usage = copy[api.usage]
    if not isinstance(usage, dict):
        return None
    cached: Any = usage
    for key in api.cached:
        cached = cached.get(key) if isinstance(cached, Mapping) else None
    cached = cached if isinstance(cached, int) else 0
    size = usage.get(api.input) or 0
    if not api.cached_included:
        size += cached
    output = usage.get(api.output) or 0
    if api is GENERATE:
        output += usage.get("thoughtsTokenCount") or 0
    if not size + output:
        return None
    return RequestUsage(
        input_tokens=size,
        output_tokens=output,
        cache_read_tokens=cached,
        unmeasured_requests=int(repaired is not None and not repaired.measured),
    )


def _set(api: Api, body: dict[str, Any], usage: dict[str, Any] | None) -> None:
    if usage is None and api is MESSAGES:
        # Its library knows no answer without.
        usage = {api.input: 0, api.output: 0}
    body[api.usage] = usage


def _cleaned(usage: Mapping[str, Any], found: _Findings) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for key, value in usage.items():
        nested = isinstance(value, Mapping | list)
        if nested and key.endswith(_COUNTS):
            found.problems[IMPOSSIBLE] = None
            continue
        if key.endswith("_details") and not isinstance(value, Mapping | None):
            # No library can read it, and no count is known by it.
            found.changed = True
            continue
        if isinstance(value, Mapping):
            value = _cleaned(value, found)
        elif isinstance(value, list):
            value = [_cleaned(part, found) if isinstance(part, Mapping) else part for part in value]
        elif key.endswith(_COUNTS) and (type(value) is not int or not 0 <= value <= _MOST):
            found.changed = True
            value = _count(value, found)
            if value is None:
                continue
        cleaned[key] = value
    return cleaned


def _count(value: Any, found: _Findings) -> int | None:
    """Return a number of tokens; ``None`` when ``value`` is none."""
    if value is None:
        return None
    number = _number(value)
    if not 0 <= number <= _MOST:
        found.problems[IMPOSSIBLE] = None
        return None
    if number != int(number):
        found.problems[ROUNDED] = None
    return math.ceil(number)


def _number(value: Any) -> int | float:
    """Return ``value`` as a number; NaN when it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _complete(api: Api, usage: dict[str, Any], found: _Findings) -> None:
    """Work out the count that is missing, where the total tells."""
    if api.total is None:
        missing = [key for key in (api.input, api.output) if key not in usage]
    else:
        known = [key for key in (api.input, api.output) if key in usage]
        total = usage.get(api.total)
        missing = [key for key in (api.input, api.output) if key not in usage]
        others = sum(usage[key] for key in known)
        if api is GENERATE:
            # Its wire format leaves out what is 0.
            others += usage.get("thoughtsTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
            missing = [] if total == others and known else missing
        if len(missing) == 1 and total is not None and total >= others:
            found.changed = True
            usage[missing.pop()] = total - others
        elif len(missing) == 2 and total is not None:
            # At least the sum is right.
            usage[api.input] = total
            found.problems.setdefault(INCOMPLETE)
            return
    if missing:
        found.problems.setdefault(INCOMPLETE)


def _check_cached(api: Api, usage: dict[str, Any], found: _Findings) -> None:
    """Drop a count of cached tokens that is larger than that of all."""
    holder: Any = usage
    for key in api.cached[:-1]:
        holder = holder.get(key) if isinstance(holder, dict) else None
    if not api.cached_included or not isinstance(holder, dict):
        return
    if holder.get(api.cached[-1], 0) > usage.get(api.input, 0):
        # Whoever counts them apart does not say so: neither sum is certain.
        del holder[api.cached[-1]]
        found.problems[CONTRADICTORY] = None


def _check_sum(api: Api, usage: dict[str, Any], found: _Findings) -> None:
    """Find out whether tokens are missing in the counts that are charged."""
    if api.input not in usage or found.problems:
        return
    # What was asked always has some.
    if not usage[api.input] and not (api is MESSAGES and _cache_tokens(usage)):
        found.problems[IMPOSSIBLE] = None
        return
    total = usage.get(api.total) if api.total is not None else None
    if total is None:
        return
    beside = usage.get("thoughtsTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    missing = total - usage[api.input] - usage.get(api.output, 0) - beside
    if missing <= 0:
        return
    details = usage.get("completion_tokens_details")
    if isinstance(details, dict) and details.get("reasoning_tokens") == missing:
        # Some providers count them apart, though they are charged as output.
        usage[api.output] = usage.get(api.output, 0) + missing
        found.changed = True
    else:
        found.problems[CONTRADICTORY] = None


def _cache_tokens(usage: Mapping[str, Any]) -> int:
    names = ("cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(name) or 0 for name in names)


def _fill(api: Api, usage: dict[str, Any]) -> bool:
    """Give ``usage`` all that the libraries insist on; tell whether there is more in it now."""
    before = len(usage)
    usage.setdefault(api.input, 0)
    usage.setdefault(api.output, 0)
    if api in (CHAT, RESPONSES):
        usage.setdefault("total_tokens", usage[api.input] + usage[api.output])
    if api is RESPONSES:
        for key, count in (
            ("input_tokens_details", "cached_tokens"),
            ("output_tokens_details", "reasoning_tokens"),
        ):
            details = usage.get(key)
            if not isinstance(details, dict) or count not in details:
                before = -1
                usage[key] = {count: 0, **(details if isinstance(details, dict) else {})}
    return len(usage) != before
