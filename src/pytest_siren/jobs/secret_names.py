"""Which variables and keys hold secrets, and which of their values are worth looking for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

REDACTED = "<redacted>"

_SHORTEST = 6
"""Characters that a value has at least to be looked for: shorter ones are in every text."""
_LONG = 16
"""Characters from which a value need not be mixed."""
_SECRET = re.compile(
    r"(?:^|_)(?:[A-Z0-9]{0,40}(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?|"
    r"PASS|PAT|CREDS?|COOKIES?|AUTH|AUTHORIZATION|JWT|BEARER|DSN|CONNECTION_?STRING)\d*(?:_|$)|"
    r"_PWD?\d*$"
)
_SURE = re.compile(r"PASS|SECRET|API_?KEY|_PWD?\d*$|_PAT\d*$|CRED|COOKIE|AUTHORIZATION")
"""Names whose values are secrets even if they are short or plain."""
_PASSWORD = re.compile(r"PASSW|PASSPHRASE|SECRET|_PWD")
"""Those whose values may be numbers."""
_NOT_SECRET = re.compile(
    r"^PASS_(?:K|WHEN)$|PUBLIC|KEY_?(?:FILE|PATH|NAME|IDS?)\b|KEY_?IDS?$|KEYBOARD|HOTKEY|MONKEY|"
    r"(?:MAX|MIN|NUM|INPUT|OUTPUT|TOTAL)_?[A-Z_]*TOKENS?|TOKENS?_?(?:LIMIT|COUNT|PER_)|"
    r"_(?:FILE|PATH|DIR|SOCK|SOCKET|URL|URI|HOST|PORT|TYPE|METHOD|MODE|NAME|TTL|EXPIRY|ENABLED|"
    r"EXPIRATION|REGION|PROFILE|PROVIDER|VERSION|LENGTH|SIZE|REQUIRED)$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PASSWORD_IN_URL = re.compile(r"://[^\s/@:]{0,256}:([^\s/]{1,512})@")
_PATH = re.compile(r"(?:~|\.{0,2})/[\w.@/ -]+\.[a-z0-9]{1,6}")
_SCENARIO = ("dataset", "attack")
"""Sections whose texts are the scenario: of them only what stands directly in ``config``."""


def is_secret_name(name: str) -> bool:
    """Tell whether ``name``, of a variable or a key, says that its value is a secret."""
    plain = _plain(name)
    return _SECRET.search(plain) is not None and _NOT_SECRET.search(plain) is None


def is_secret(name: str, value: Any) -> bool:
    """Tell whether ``value`` of the key ``name`` in a configuration is to be hidden."""
    if value in (None, "") or isinstance(value, bool | list | tuple | Mapping):
        return False
    if not is_secret_name(name):
        return False
    text = str(value)
    if text.lower() in ("none", "null", "true", "false", REDACTED):
        return False
    sure = _SURE if isinstance(value, str) else _PASSWORD
    return looks_like_a_key(text) or sure.search(_plain(name)) is not None


def _plain(name: str) -> str:
    return _CAMEL.sub("_", name[:200]).replace("-", "_").replace(" ", "_").upper()


def looks_like_a_key(value: str) -> bool:
    """Tell whether ``value`` is long and mixed enough to be no ordinary word, and no path."""
    if len(value.strip()) < _SHORTEST or value.startswith(REDACTED):
        return False
    if value.startswith(("/", "./", "../", "~")) and _is_path(value):
        return False
    if len(value) >= _LONG:
        return True
    kinds = (str.isdigit, str.islower, str.isupper)
    mixed = sum(any(kind(char) for char in value) for kind in kinds)
    mixed += any(not char.isalnum() for char in value) + (not value.isascii())
    return mixed >= 2


def of_environment(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the secrets among ``variables``: values by their names, and passwords in URLs."""
    for name, value in variables:
        if is_secret_name(name) and looks_like_a_key(value):
            yield value
        if "://" in value:
            yield from _passwords(value)


def of_config(config: Mapping[str, Any]) -> set[str]:
    """Return the secrets in a job's configuration: values of keys that say so, passwords in URLs.

    What tasks, tools' data and attacks hold is the scenario, not a secret: it is left out.
    """
    found: set[str] = set()
    for section, value in config.items():
        if isinstance(value, Mapping):
            found.update(_in_section(section, value))
    return found


def of_override(override: str) -> list[str]:
    """Return the secrets in ``KEY=VALUE``, as ``--set`` takes it."""
    key, separator, value = override.partition("=")
    if not separator or not is_secret_name(key.rpartition(".")[2]):
        return list(_passwords(override))
    values = {value, *value.split(",")}
    return [one for each in values if looks_like_a_key(one := each.strip("\"' []"))]


def shown_override(override: str) -> str:
    """Return ``KEY=VALUE`` with the value of a secret key replaced."""
    key, separator, _ = override.partition("=")
    if separator and is_secret_name(key.rpartition(".")[2]):
        return f"{key}={REDACTED}"
    return _PASSWORD_IN_URL.sub(lambda found: found[0].replace(found[1], REDACTED), override)


def _in_section(section: str, value: Mapping[str, Any]) -> Iterator[str]:
    if section not in _SCENARIO:
        yield from _anywhere(value, secret=False)
        return
    config = value.get("config")
    for key, one in config.items() if isinstance(config, Mapping) else ():
        if is_secret_name(str(key)) or str(key) == "headers":
            yield from _anywhere(one, secret=is_secret_name(str(key)))


def _anywhere(value: Any, *, secret: bool) -> Iterator[str]:
    """Yield secrets below ``value``; all texts are, where ``secret``."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _anywhere(one, secret=is_secret_name(str(key)))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _anywhere(one, secret=secret)
    elif isinstance(value, str):
        if secret and looks_like_a_key(value):
            yield value
        yield from _passwords(value)


def _passwords(text: str) -> Iterator[str]:
    for password in _PASSWORD_IN_URL.findall(text):
        if looks_like_a_key(password):
            yield password


def _is_path(value: str) -> bool:
    """Tell a path from a secret that begins as one, such as base64."""
    expanded = os.path.expanduser(value)
    try:
        return _PATH.fullmatch(value) is not None or os.path.exists(expanded)
    except ValueError:
        return False
