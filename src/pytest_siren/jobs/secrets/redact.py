"""Takes secrets out of what leaves the session: records, the terminal, reports."""

from __future__ import annotations

import html
import json
import os
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from ahocorasick_rs import AhoCorasick, BytesAhoCorasick, MatchKind

from pytest_siren.jobs.secrets.patterns import (
    REDACTED,
    is_secret,
    is_secret_name,
    of_environment,
    shown_override,
    without_patterns,
)

_STRONG = 16
"""Characters of a value that nobody could take for a name, and that stand in no other word."""
_SHORT = 12
"""Below so many characters, a value is found only where no letter or digit is next to it."""
_IDENTIFIERS = frozenset(
    {
        *("task_id", "run_id", "execution_id", "nodeid", "path", "identity", "job_name", "name"),
        *("session_id", "sweep_id", "dataset", "agent", "model", "model_kind", "attack", "status"),
        *("started_at", "finished_at", "timestamp", "attack_outcome", "vectors", "exception_type"),
        *("benign_evaluators", "attack_evaluators", "suite", "task", "trace_id", "span_id"),
    }
)
"""Keys of a record whose values other things are found by; they are never changed."""
_OF_MESSAGES = frozenset(
    {
        *("kind", "part_kind", "tool_name", "tool_call_id", "run_id", "conversation_id"),
        *("timestamp", "model_name", "provider_name", "finish_reason", "state", "id"),
    }
)
"""Keys of messages and their parts that readers depend on."""
_FREE = frozenset({"args", "content", "metadata", "provider_details"})
"""Keys of messages below which any key may be a tool's or a model's own."""
_SCENARIO = frozenset({"dataset", "attack"})
_ASKED = frozenset({"invocation", "overrides"})
_SETTINGS = frozenset(
    {
        *("agent", "sandbox_manager", "execution", "output", "telemetry", "logging", "slurm"),
        *("usage_limits", "cell"),
    }
)


@dataclass(frozen=True)
class Redactor:
    """Knows secrets, and takes them out: those of the environment and ``values``."""

    values: frozenset[str] = frozenset()

    def known(self, text: str) -> str:
        """Return ``text`` without the known values, in whatever form they stand there."""
        finder = self._finder()
        return text if finder is None else finder.replaced(text)

    def strong(self, text: str) -> str:
        """Return ``text`` without the known values that could not be part of a name."""
        finder = _finder(frozenset(one for one in self._all() if len(one) >= _STRONG))
        return text if finder is None else finder.replaced(text)

    def text(self, text: str) -> str:
        """Return ``text`` without known values and without what has the form of a secret.

        For errors, logs and settings; what models, tools and attacks said is evidence.
        """
        return self.known(without_patterns(text))

    def occurs(self, data: bytes) -> bool:
        """Tell whether a known value may stand in ``data``, JSON in UTF-8."""
        finder = self._finder()
        return finder is not None and finder.occurs(data)

    def record(self, record: Any) -> Any:
        """Return JSON data without known values. Identifiers stay as they are."""
        finder = self._finder()
        if finder is None or not isinstance(record, Mapping):
            return record
        return {
            key: value if key in _IDENTIFIERS else _walked(value, finder, _OF_MESSAGES)
            for key, value in record.items()
        }

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job's configuration, plain data, without secrets.

        In settings these are values of keys such as ``api_key``, known values and what has the form
        of a secret. Of dataset and attack, which are the scenario, only known values and what
        stands directly in their configuration under such a key.
        """
        return {key: self._section(key, value) for key, value in config.items()}

    def _section(self, key: str, value: Any) -> Any:
        if key in _SCENARIO and isinstance(value, Mapping):
            # Beside its configuration stand names.
            return {
                name: self._scenario(one) if name == "config" else one
                for name, one in value.items()
            }
        if key in _ASKED:
            return self._asked(value)
        return self._settings(value) if key in _SETTINGS else value

    def _asked(self, value: Any) -> Any:
        """Return what a command line asked for; what a session is resumed by stays as it is."""
        if isinstance(value, list | tuple):
            return [self._asked(one) for one in value]
        if not isinstance(value, Mapping) or not value.get("set"):
            return value
        return {**value, "set": [self.text(shown_override(str(one))) for one in value["set"]]}

    def _scenario(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        finder = self._finder()
        return {
            name: self._settings({name: one})[name]
            if is_secret_name(name) or name == "headers"
            else one
            if finder is None
            else _walked(one, finder, frozenset())
            for name, one in value.items()
        }

    def _settings(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self.known(name): self._setting(name, one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._settings(one) for one in value]
        return self.text(value) if isinstance(value, str) else value

    def _setting(self, name: str, value: Any) -> Any:
        name = name.rpartition(".")[2]
        if isinstance(value, list | tuple):
            return [self._setting(name, one) for one in value]
        return REDACTED if is_secret(name, value) else self._settings(value)

    def _all(self) -> frozenset[str]:
        return self.values | _environment(int(time.monotonic()))

    def _finder(self) -> _Finder | None:
        return _finder(self._all())


ENVIRONMENT = Redactor()
"""Knows the secrets of this process's environment, and no others."""


class _Finder:
    """Looks for all forms of all values at once."""

    def __init__(self, forms: list[tuple[str, bool]]) -> None:
        texts = [form for form, _ in forms]
        self._apart = [apart for _, apart in forms]
        self._search = AhoCorasick(texts, matchkind=MatchKind.LeftmostLongest)
        self._bytes = BytesAhoCorasick([_in_json(text) for text in texts])

    def occurs(self, data: bytes) -> bool:
        return bool(self._bytes.find_matches_as_indexes(data))

    def replaced(self, text: str) -> str:
        if not text.isascii():
            # A lone surrogate is spelled, as in records: nothing could be looked for beside it.
            text = text.encode(errors="backslashreplace").decode()
        kept: list[str] = []
        end = 0
        for form, start, stop in self._search.find_matches_as_indexes(text):
            if self._apart[form] and _inside_a_word(text, start, stop):
                continue
            kept += [text[end:start], REDACTED]
            end = stop
        return "".join([*kept, text[end:]]) if kept else text


def _inside_a_word(text: str, start: int, stop: int) -> bool:
    before = text[start - 1 : start]
    # A letter may belong to an escaped line break.
    escaped = text[max(0, start - 2) : start - 1] == "\\"
    return (before.isalnum() and not escaped) or text[stop : stop + 1].isalnum()


def _walked(value: Any, finder: _Finder, kept: frozenset[str]) -> Any:
    """Return ``value`` with its texts replaced, but for those of the keys ``kept``."""
    if isinstance(value, str):
        return finder.replaced(value)
    if isinstance(value, Mapping):
        return {
            finder.replaced(key) if not kept else key: one
            if key in kept and isinstance(one, str)
            else _walked(one, finder, frozenset() if key in _FREE else kept)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_walked(one, finder, kept) for one in value]
    return value


@lru_cache(maxsize=1)
def _environment(second: int) -> frozenset[str]:
    """Return the secrets among the variables. Looked for once a second: that takes a while."""
    return frozenset(of_environment(tuple(os.environ.items())))


@lru_cache(maxsize=8)
def _finder(values: frozenset[str]) -> _Finder | None:
    """Return what looks for ``values``; ``None`` when there are none."""
    forms: dict[str, bool] = {}
    for value in sorted(values):
        for form in _forms(value):
            forms.setdefault(form, len(value) < _SHORT)
    return _Finder(list(forms.items())) if forms else None


def _forms(value: str) -> set[str]:
    """Return how texts spell ``value``: JSON, also within JSON, URLs, HTML, base64."""
    readable = value.encode(errors="replace").decode()
    found = {readable}
    for ascii_only in (True, False):
        escaped = readable
        for _ in range(3):
            escaped = json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]
            found.add(escaped)
    found |= {quote(readable), quote(readable, safe=""), quote_plus(readable)}
    found |= {html.escape(readable), html.escape(readable, quote=False), repr(readable)[1:-1]}
    if len(readable) >= _SHORT:
        raw = readable.encode()
        # The letters depend on where in the encoded text the value begins; those at its ends also
        # on what is beside it.
        for shift in range(3):
            encoded = b64encode(b"\0" * shift + raw).decode().rstrip("=")
            found.add(encoded[(0, 2, 3)[shift] : None if shift == 0 and len(raw) % 3 == 0 else -1])
    return found


def _in_json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()
