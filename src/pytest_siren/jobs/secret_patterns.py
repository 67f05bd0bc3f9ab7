"""Secrets that are known by their form. For errors, logs and settings, never for what was said.

Every search is linear in the length of the text: what a pattern begins with is literal or bounded,
and what it goes on with cannot hold another beginning.
"""

from __future__ import annotations

import re

from pytest_siren.jobs.secret_names import REDACTED

# No letter or digit before, unless it is that of an escaped line break or the like.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
_HEADER = re.compile(
    _START
    + r"(?:(?:proxy-)?(?P<auth>authorization)|(?:set-)?(?P<cookie>cookie)|(?:x-)?api[-_]?key|"
    r"(?:shared)?(?:access|subscription|secret|account)[-_]?key|"
    r"(?:access|api|auth|csrf|id|private|refresh|security|session|vault)[-_]token|"
    r"client[-_]secret|(?:pg)?(?:password|passwd)|passphrase)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_NAME_END = re.compile(r"(?P<quoted>\\{0,64}[\"'])?\s{0,64}(?P<sign>[:,=])\s{0,64}\[?\s{0,64}b?")
_QUOTE = re.compile(r"\\{0,64}[\"']")
_LONGEST_QUOTED = 16_384
_SCHEME = re.compile(r"(?:bearer|basic|token|negotiate)\s{1,64}", re.IGNORECASE)
_WHOLE_LINE = re.compile(r"(?:digest|aws4-hmac-sha256|hawk|oauth)\s", re.IGNORECASE)
_BARE = re.compile(r"[^\s\"'\\,;&\[\]{}<>]{4,}")
_LINE = re.compile(r"(?:=\\{0,64}\"[^\r\n\"\\]{0,4096}\\{0,64}\"|[^\r\n\"'\\])+")
"""To the end of the line or of the text in quotes that holds it; values of cookies have quotes."""
_SUBSTITUTIONS = (
    (
        ("bearer",),
        re.compile(_START + r"(bearer\s{1,64})[A-Za-z0-9._~+/=-]{12,}", re.IGNORECASE),
        r"\1" + REDACTED,
    ),
    (
        ("basic ",),
        re.compile(_START + r"(basic )[A-Za-z0-9+/]{12,}={0,2}(?![A-Za-z0-9+/])", re.IGNORECASE),
        r"\1" + REDACTED,
    ),
    (
        ("/",),
        re.compile(
            r"(:\\{0,8}/\\{0,8}/[^\s\"'/@:\\<>]{0,256}:)[^\s\"'/\\<>]{1,512}(?=@)",
        ),
        r"\1" + REDACTED,
    ),
    (
        ("@",),
        # A token in the place of a user.
        re.compile(r"(:\\{0,8}/\\{0,8}/)[A-Za-z0-9_.~-]{20,512}(?=:?@)"),
        r"\1" + REDACTED,
    ),
    (
        ("key", "token", "secret"),
        # As a name or in a sentence, where the value is too long and mixed to be a word.
        re.compile(
            r"((?:api[ _-]?key|[_-]key|token|secret)\\{0,8}[\"'`]?(?: (?:provided|given|used|is))?"
            r"\s{0,4}[:=]?\s{0,4}\\{0,8}[\"'`]?)"
            r"(?<![A-Za-z0-9])(?=[A-Za-z_~+/-]{0,64}[0-9])(?=[0-9_~+/-]{0,64}[A-Za-z])"
            r"[A-Za-z0-9_~+/-]{20,}={0,2}(?![A-Za-z0-9_./(-])",
            re.IGNORECASE,
        ),
        r"\1" + REDACTED,
    ),
    (
        ("=",),
        re.compile(
            r"(?<![A-Za-z0-9_])((?:api[-_]?key|(?<=[?&])key|(?:access|auth)[-_]?token|token|"
            r"(?:client[-_])?secret|sig|signature|password|passwd|pwd)=)[^\s\"'&#\\,;<>]{6,}",
            re.IGNORECASE,
        ),
        r"\1" + REDACTED,
    ),
    (
        ("sk-", "k_", "gsk_", "xai-", "pplx-", "r8_", "tvly-", "nvapi-", "lsv2_", "ya29.", "glsa_"),
        re.compile(
            _START + r"(?:sk-(?:ant-|proj-|or-|svcacct-)?|[prs]k_(?:live|test)_|gsk_|xai-|"
            r"pplx-|r8_|tvly-|nvapi-|lsv2_[a-z]{2}_|ya29\.|glsa_)[A-Za-z0-9_-]{16,}"
        ),
        REDACTED,
    ),
    (
        ("gh", "xox", "aiza", "hf_", "akia", "asia", "glpat-", "npm_", "pypi-"),
        re.compile(
            _START + r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|"
            r"xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{20,}|"
            r"(?:AKIA|ASIA)[A-Z0-9]{16}|glpat-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|"
            r"pypi-[A-Za-z0-9_-]{30,})"
        ),
        REDACTED,
    ),
    (
        ("eyj",),
        re.compile(
            r"(?:(?<![A-Za-z0-9_.-])|(?<=\\[nrtbf]))eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\."
            r"[A-Za-z0-9_-]{8,}"
        ),
        REDACTED,
    ),
    (
        ("private key",),
        re.compile(
            r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?:(?!-----).)*"
            r"(-----END [A-Z ]{0,40}PRIVATE KEY-----)?",
            re.DOTALL,
        ),
        r"\1" + REDACTED + r"\2",
    ),
)
"""What one of must be in the text, in lower case; the pattern; and what takes its place."""


def without_patterns(text: str) -> str:
    """Return ``text`` without what has the form of a secret.

    That are headers that authenticate, bearer tokens, keys of known services, passwords in URLs,
    secrets in query strings, and private keys.
    """
    text = _without_headers(text)
    lower = text.lower()
    for triggers, pattern, replacement in _SUBSTITUTIONS:
        if any(trigger in lower for trigger in triggers):
            text = pattern.sub(replacement, text)
    return text


def _without_headers(text: str) -> str:
    """Return ``text`` with the values of headers replaced, in JSON, ``repr`` and plain lines."""
    kept: list[str] = []
    end = 0
    for found in _HEADER.finditer(text):
        if found.start() < end:
            continue
        place = _value_of_header(text, found)
        if place is not None:
            kept += [text[end : place[0]], REDACTED]
            end = place[1]
    return "".join([*kept, text[end:]]) if kept else text


def _value_of_header(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """Return where the value of a header begins and ends; ``None`` when it has none."""
    named = _NAME_END.match(text, found.end())
    if named is None or (named["sign"] == "," and not named["quoted"]):
        return None
    begin = named.end()
    quote = _QUOTE.match(text, begin)
    if quote is not None:
        closing = text.find(quote[0], quote.end(), quote.end() + _LONGEST_QUOTED)
        if closing > quote.end():
            return quote.end(), closing
        if closing == quote.end():
            return None
        begin = quote.end()
    elif text[begin - 1] == "b":
        begin -= 1
    if text.startswith(REDACTED, begin):
        # Not after the match: what is left of the line would be read for every header in it.
        return None
    if found["cookie"] or (found["auth"] and _WHOLE_LINE.match(text, begin)):
        value = _LINE.match(text, begin)
    else:
        scheme = _SCHEME.match(text, begin)
        begin = scheme.end() if scheme else begin
        value = _BARE.match(text, begin)
    if value is None or text.startswith(REDACTED, begin):
        return None
    return value.span()
