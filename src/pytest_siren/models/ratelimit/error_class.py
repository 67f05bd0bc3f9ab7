"""Classifies failed requests: sent again, the run's own error, or an unavailable model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pytest_siren.models.ratelimit.error_details import Facts


class Kind(StrEnum):
    """What to do."""

    REFUSAL = "refusal"
    """Too many requests: send fewer, and this one again later."""
    FAULT = "fault"
    """An accident: send it again soon, a few times."""
    UNAVAILABLE = "unavailable"
    """Every request on this model will end like this."""
    UNEXPLAINED = "unexplained"
    """Rejected without a reason: the prompt's fault, or everybody's."""
    REJECTED = "rejected"
    """This request's own error."""


class Trouble(StrEnum):
    """Why no request can succeed."""

    KEY = "key"
    QUOTA = "quota"
    MODEL = "model"
    ADDRESS = "address"
    PROXY = "proxy"
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Verdict:
    """A judgement with its reason in a word or two."""

    kind: Kind
    reason: str
    trouble: Trouble | None = None


_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "credit_balance_exhausted",
        "exceeded_current_quota_error",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
_KEY_CODES = frozenset(
    {
        "invalid_api_key",
        "api_key_invalid",
        "authentication_error",
        "permission_error",
        "permission_denied",
        "unauthorized",
        "access_denied",
        "account_deactivated",
        "invalid_organization",
        "organization_not_found",
        "unsupported_country_region_territory",
    }
)
_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "invalid_model"})
_POLICY_CODES = frozenset(
    {"content_filter", "content_policy_violation", "moderation", "moderation_blocked"}
)

# Anchored to the provider's own phrases: the rest of a message may quote a prompt.
_QUOTA = re.compile(
    r"credit balance is (?:too )?low|insufficient (?:balance|credits?|quota)"
    r"|billing hard limit|requires more credits",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"\bapi[ -]?key\b|\bcredentials?\b|\b(?:not authorized|unauthori[sz]ed|permission)\b"
    r"|do(?:es)? not have access|access (?:is )?denied|account (?:is |has been )?(?:deactivated|"
    r"suspended|disabled)",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"(?:incorrect|invalid|missing|expired) api[ -]?key|api[ -]?key (?:is )?(?:not valid|invalid"
    r"|expired|not found)",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"\b(?:model|deployment)\b[^\n]{0,120}?\b(?:not (?:exist|found)|does not exist|unknown"
    r"|is not (?:a valid|supported|available)|decommissioned|deprecated)"
    r"|^(?:invalid|unknown|no such) model\b|^model: |no endpoints found",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"moderation|flagged|content[ _-](?:policy|filter|management)|safety|guardrail|blocked",
    re.IGNORECASE,
)
_THING = re.compile(
    r"\b(?:item|response|file|conversation|thread|container|tool|message|vector store)\b"
    r"[^\n]{0,120}?not found",
    re.IGNORECASE,
)
_OVERLOADED = re.compile(r"overloaded|over capacity|too many requests", re.IGNORECASE)

_TRANSIENT = frozenset({408, 409, 425})
_FINAL_5XX = frozenset({501, 505})


def judge(facts: Facts) -> Verdict:
    """Judge what ``facts`` tell of a request."""
    status = facts.status
    if facts.unusable:
        return _unusable(facts)
    if status is None and facts.unsendable is not None:
        return Verdict(Kind.UNAVAILABLE, "not sent", Trouble(facts.unsendable))
    if status is None and facts.connection:
        return Verdict(Kind.FAULT, "time-out" if facts.timeout else "connection")
    if trouble := _trouble(facts):
        return Verdict(Kind.UNAVAILABLE, trouble.value, trouble)
    if status == 429 or (status is None and facts.rate_limited):
        return Verdict(Kind.REFUSAL, "rate limit")
    if _is_overload(facts):
        return Verdict(Kind.REFUSAL, "overloaded")
    if status is None:
        return Verdict(Kind.REJECTED, "error")
    if status in _TRANSIENT or (status >= 500 and status not in _FINAL_5XX):
        if facts.headers.get("x-should-retry") == "false":
            return Verdict(Kind.REJECTED, "error")
        return Verdict(Kind.FAULT, "time-out" if status in (408, 504) else "server error")
    if status == 403 and not _is_policy(facts):
        return Verdict(Kind.UNEXPLAINED, "rejected", Trouble.KEY)
    if status == 404 and not _THING.search(facts.message):
        return Verdict(Kind.UNEXPLAINED, "rejected", Trouble.ADDRESS)
    return Verdict(Kind.REJECTED, "error")


def _unusable(facts: Facts) -> Verdict:
    if facts.again:
        return Verdict(Kind.FAULT, "no answer")
    if facts.page:
        return Verdict(Kind.UNEXPLAINED, "no answer", Trouble.ADDRESS)
    return Verdict(Kind.REJECTED, "no answer")


def _trouble(facts: Facts) -> Trouble | None:
    """Return what ails the account, the key or the model, if the provider says so."""
    status, message = facts.status, facts.message
    client_error = status is None or 400 <= status < 500
    if facts.quota or status == 402 or facts.codes & _QUOTA_CODES:
        return Trouble.QUOTA
    if client_error and facts.structured and _QUOTA.search(message):
        return Trouble.QUOTA
    if status == 407:
        return Trouble.PROXY
    if status == 401 or (status == 400 and facts.codes & _KEY_CODES):
        return Trouble.KEY
    if status == 400 and facts.structured and _BAD_KEY.search(message):
        return Trouble.KEY
    if facts.codes & _MODEL_CODES:
        return Trouble.MODEL
    if status in (400, 404) and facts.structured and not _THING.search(message):
        if _MODEL.search(message):
            return Trouble.MODEL
    if status == 403 and facts.structured and not _is_policy(facts):
        if facts.codes & _KEY_CODES or _KEY.search(message):
            return Trouble.KEY
    return None


def _is_policy(facts: Facts) -> bool:
    return bool(facts.codes & _POLICY_CODES) or _POLICY.search(facts.message) is not None


def _is_overload(facts: Facts) -> bool:
    if facts.overloaded or facts.status == 529:
        return True
    if facts.status != 503:
        return False
    says = any(_OVERLOADED.search(text) for text in (facts.message, *facts.codes))
    return says or bool({"retry-after", "retry-after-ms"} & facts.headers.keys())
