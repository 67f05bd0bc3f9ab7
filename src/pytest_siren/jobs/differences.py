"""How the configurations of two jobs differ in what makes them two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

IDENTITY_KEYS = ("dataset", "agent", "attack", "attack_name", "sources")
"""Keys of ``config.yaml`` that a job's identity is made of."""
_LONGEST = 60


class _Missing:
    def __repr__(self) -> str:
        return "(not there)"


MISSING = _Missing()
"""Stands for the value of a key that one side lacks."""


@dataclass(frozen=True)
class Difference:
    """A key with different values."""

    key: str
    """Dotted path, such as ``dataset.config.tasks[3].prompt``."""
    left: Any
    right: Any

    def __str__(self) -> str:
        left, right = self.left, self.right
        if isinstance(left, str) and isinstance(right, str):
            return f"{self.key}: {_texts(left, right)}"
        if isinstance(left, list) and isinstance(right, list):
            return f"{self.key}: {len(left)} items -> {len(right)} items"
        if type(left) is not type(right) and MISSING not in (left, right):
            return f"{self.key}: {_shown(left)} ({_kind(left)}) -> {_shown(right)} ({_kind(right)})"
        return f"{self.key}: {_shown(left)} -> {_shown(right)}"


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between two configurations, key by key, in the order of ``left``."""
    found: list[Difference] = []
    for key in IDENTITY_KEYS:
        found += _between(key, left.get(key) or None, right.get(key) or None)
    return found


def _between(key: str, left: Any, right: Any) -> Iterator[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in dict.fromkeys([*left, *right]):
            inner = f"{key}.{name}"
            yield from _between(inner, left.get(name, MISSING), right.get(name, MISSING))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            yield Difference(key, list(left), list(right))
        for index, (one, other) in enumerate(zip(left, right, strict=False)):
            yield from _between(f"{key}[{index}]", one, other)
    elif left != right or type(left) is not type(right):
        yield Difference(key, left, right)


def _texts(left: str, right: str) -> str:
    """Return both texts, from a little before the first character in which they differ."""
    start = next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
    begin = max(0, start - 10) if max(len(left), len(right)) > _LONGEST else 0
    # Of texts that are shown whole it says nothing new.
    cut = max(len(left), len(right)) > _LONGEST and len(left) != len(right)
    lengths = f" ({len(left)} -> {len(right)} characters)" if cut else ""
    return f"{_cut(left, begin)} -> {_cut(right, begin)}{lengths}"


def _cut(text: str, begin: int) -> str:
    end = begin + _LONGEST
    return f"{'...' if begin else ''}{text[begin:end]!r}{'...' if end < len(text) else ''}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, _Missing) else repr(value)
    text = str(text) if not isinstance(text, str) else text
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
