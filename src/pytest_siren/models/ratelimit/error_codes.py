"""What providers and libraries call their errors."""

from __future__ import annotations

import re

LIBRARIES = frozenset(
    {"httpx", "httpx2", "httpcore", "httpcore2", "openai", "anthropic", "groq", "aiohttp", "anyio"}
)
CONNECTION_CLASSES = frozenset(
    {
        "APIConnectionError",
        "ClientConnectionError",
        "ClosedResourceError",
        "BrokenResourceError",
        "EndOfStream",
        "NetworkError",
        "ProtocolError",
        "TransportError",
    }
)
TIMEOUT_CLASSES = frozenset({"APITimeoutError", "TimeoutException"})
CONNECT_CLASSES = frozenset({"ConnectError", "ConnectTimeout", "ClientConnectorError"})
BROKEN_CLASSES = CONNECTION_CLASSES | TIMEOUT_CLASSES | CONNECT_CLASSES
BAD_ADDRESS_CLASSES = frozenset({"UnsupportedProtocol", "InvalidURL", "NonHttpUrlClientError"})
BAD_HEADER = ("Forbidden control character", "Newline, carriage return, or null byte")
"""How aiohttp's complaints of a header begin."""
NO_KEY = ("Missing credentials", "The api_key client option must be set")
QUOTA_CODES = frozenset(
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
KEY_CODES = frozenset(
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
MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "invalid_model"})
POLICY_CODES = frozenset(
    {"content_filter", "content_policy_violation", "moderation", "moderation_blocked"}
)
# Anchored to the provider's own phrases: the rest of a message may quote a prompt.
QUOTA_WORDS = re.compile(
    r"credit balance is (?:too )?low|insufficient (?:balance|credits?|quota)"
    r"|billing hard limit|requires more credits",
    re.IGNORECASE,
)
KEY_WORDS = re.compile(
    r"\bapi[ -]?key\b|\bcredentials?\b|\b(?:not authorized|unauthori[sz]ed|permission)\b"
    r"|do(?:es)? not have access|access (?:is )?denied|account (?:is |has been )?(?:deactivated|"
    r"suspended|disabled)",
    re.IGNORECASE,
)
BAD_KEY_WORDS = re.compile(
    r"(?:incorrect|invalid|missing|expired) api[ -]?key|api[ -]?key (?:is )?(?:not valid|invalid"
    r"|expired|not found)",
    re.IGNORECASE,
)
MODEL_WORDS = re.compile(
    r"\b(?:model|deployment)\b[^\n]{0,120}?\b(?:not (?:exist|found)|does not exist|unknown"
    r"|is not (?:a valid|supported|available)|decommissioned|deprecated)"
    r"|^(?:invalid|unknown|no such) model\b|^model: |no endpoints found",
    re.IGNORECASE,
)
POLICY_WORDS = re.compile(
    r"moderation|flagged|content[ _-](?:policy|filter|management)|safety|guardrail|blocked",
    re.IGNORECASE,
)
THING_NOT_FOUND = re.compile(
    r"\b(?:item|response|file|conversation|thread|container|tool|message|vector store)\b"
    r"[^\n]{0,120}?not found",
    re.IGNORECASE,
)
OVERLOADED_WORDS = re.compile(r"overloaded|over capacity|too many requests", re.IGNORECASE)
