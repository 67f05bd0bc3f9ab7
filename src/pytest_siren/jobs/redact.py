"""Takes secrets out of what is about to be written."""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache

from ahocorasick_rs import BytesAhoCorasick

REDACTED = b"<redacted>"

_SHORTEST = 8
"""Characters that a variable's value has at least to be taken for a key."""
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|CREDENTIALS?|COOKIE|AUTH)(?:_|$)",
    re.IGNORECASE,
)
_NO_SECRET_NAME = re.compile(r"PUBLIC|KEY_?(?:FILE|PATH|NAME|ID)|TOKEN_?(?:LIMIT|COUNT)", re.I)

# No letter or digit before, unless it is that of an escaped line break or the like.
_START = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
# A quote may be escaped where JSON holds JSON.
_QUOTE = rb"\\*[\"']"
_HEADER = (
    rb"(?:proxy-)?authorization|(?:set-)?cookie|(?:x-)?api[-_]?key|x-goog-api-key|"
    rb"x-auth-token|access[-_]token|refresh[-_]token|client[-_]secret|id[-_]token"
)
# Parts of what is looked for that ordinary records lack: "_token" is in every one of them.
_HEADER_WORDS = (
    *(b"authorization", b"cookie", b"api-key", b"api_key", b"apikey", b"auth-token"),
    *(b"access_token", b"access-token", b"refresh_token", b"refresh-token"),
    *(b"client_secret", b"client-secret", b"id_token", b"id-token"),
)
_RULES: tuple[tuple[tuple[bytes, ...], re.Pattern[bytes], bytes], ...] = (
    # "authorization": "Bearer ...", also as a pair ["authorization", "..."] or a Python repr.
    (
        _HEADER_WORDS,
        re.compile(
            rb"(?P<kept>" + _QUOTE + rb"(?:" + _HEADER + rb")" + _QUOTE + rb"\s*[:,=]\s*\[?\s*b?"
            rb"(?P<quote>" + _QUOTE + rb"))(?:(?!(?P=quote)).)+?(?=(?P=quote))",
            re.IGNORECASE | re.DOTALL,
        ),
        rb"\g<kept>" + REDACTED,
    ),
    # Authorization: Bearer ... as it stands in a log or in a traceback.
    (
        _HEADER_WORDS,
        re.compile(
            rb"(?P<kept>"
            + _START
            + rb"(?:"
            + _HEADER
            + rb")\s*[:=]\s*(?:(?:bearer|basic|token)\s+)?)"
            rb"(?!<redacted>)[^\s\"'\\,;&\[\]{}]{6,}(?:;[^\s\"'\\]+)*",
            re.IGNORECASE,
        ),
        rb"\g<kept>" + REDACTED,
    ),
    (
        (b"bearer ",),
        re.compile(rb"(?P<kept>" + _START + rb"bearer\s+)[A-Za-z0-9._~+/=-]{12,}", re.IGNORECASE),
        rb"\g<kept>" + REDACTED,
    ),
    (
        (b"://",),
        re.compile(
            rb"(?P<kept>[a-z][a-z0-9+.-]*:\\?/\\?/[^\s\"'/@:\\]*:)[^\s\"'/@\\]+(?=@)",
            re.IGNORECASE,
        ),
        rb"\g<kept>" + REDACTED,
    ),
    (
        (b"key=", b"token=", b"secret=", b"password="),
        re.compile(
            rb"(?P<kept>[?&](?:api[-_]?key|key|access[-_]?token|token|client[-_]secret|password)=)"
            rb"[^\s\"'&#\\]{6,}",
            re.IGNORECASE,
        ),
        rb"\g<kept>" + REDACTED,
    ),
    (
        (b"sk-", b"k_live_", b"k_test_", b"gsk_", b"xai-", b"pplx-", b"r8_"),
        re.compile(
            _START + rb"(?:sk-(?:ant-|proj-|or-|svcacct-)?|[sr]k_(?:live|test)_|gsk_|xai-|"
            rb"pplx-|r8_)[A-Za-z0-9_-]{16,}"
        ),
        REDACTED,
    ),
    (
        (
            *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"xox", b"aiza", b"hf_"),
            *(b"akia", b"asia", b"glpat-", b"eyj", b"npm_", b"pypi-"),
        ),
        re.compile(
            _START + rb"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|"
            rb"xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{20,}|"
            rb"(?:AKIA|ASIA)[A-Z0-9]{16}|glpat-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|"
            rb"pypi-[A-Za-z0-9_-]{30,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"
        ),
        REDACTED,
    ),
    (
        (b"private key",),
        re.compile(
            rb"(?P<kept>-----BEGIN [A-Z ]*PRIVATE KEY-----)(?:(?!-----).)*"
            rb"(?P<end>-----END [A-Z ]*PRIVATE KEY-----)",
            re.DOTALL,
        ),
        rb"\g<kept>" + REDACTED + rb"\g<end>",
    ),
)
"""Lower-case bytes one of which must be there, the pattern, and what takes its place."""


def redact(data: bytes) -> bytes:
    """Return ``data``, UTF-8 text such as JSON or YAML, with secrets replaced by ``<redacted>``.

    These are headers that authenticate, bearer tokens, passwords in URLs, keys in query strings,
    keys of known services by their form, private keys, and values of this process's environment
    variables whose names say that they are secret. Of JSON it leaves JSON, of YAML YAML.
    """
    for value in _secrets(_environment(int(time.monotonic()))):
        if value in data:
            data = data.replace(value, REDACTED)
    found = _TRIGGERS.find_matches_as_indexes(data.lower(), overlapping=True)
    for rule in sorted({rule for trigger, _, _ in found for rule in _RULES_OF[trigger]}):
        _, pattern, replacement = _RULES[rule]
        data = pattern.sub(replacement, data)
    return data


def _rules_of_triggers() -> dict[bytes, list[int]]:
    """Return each trigger with the positions of its rules."""
    found: dict[bytes, list[int]] = {}
    for position, (triggers, _, _) in enumerate(_RULES):
        for trigger in triggers:
            found.setdefault(trigger, []).append(position)
    return found


# All of them are looked for at once: one by one they took ten times as long as the patterns do.
_TRIGGERS = BytesAhoCorasick(list(_rules_of_triggers()))
_RULES_OF = list(_rules_of_triggers().values())


@lru_cache(maxsize=1)
def _environment(second: int) -> tuple[tuple[str, str], ...]:
    """Return the variables with such names. Looked for once a second: it is as dear as the rest."""
    return tuple(item for item in os.environ.items() if _SECRET_NAME.search(item[0]))


@lru_cache(maxsize=4)
def _secrets(variables: tuple[tuple[str, str], ...]) -> tuple[bytes, ...]:
    """Return the values that are secrets, longest first, in the ways in which JSON spells them."""
    found: set[bytes] = set()
    for name, value in variables:
        if not _NO_SECRET_NAME.search(name) and looks_like_a_key(value):
            found.add(value.encode(errors="surrogateescape"))
            found.add(value.replace("\\", "\\\\").replace('"', '\\"').encode(errors="replace"))
    return tuple(sorted(found, key=len, reverse=True))


def looks_like_a_key(value: str) -> bool:
    """Tell whether ``value`` is long and mixed enough to be no ordinary word."""
    if len(value) < _SHORTEST or any(char.isspace() for char in value):
        return False
    kinds = (str.isdigit, str.islower, str.isupper)
    mixed = sum(any(kind(char) for char in value) for kind in kinds)
    mixed += any(not char.isalnum() for char in value)
    return mixed >= 2 and not value.startswith(("/", "./", "~"))
